// Takes webhooks whose signature is right, each event once, and answers 401 to others. A batch is verified once. Java 17 or newer, no
// dependency.
//
//   WEBHOOK_SECRET=whsec_… java Receiver.java 127.0.0.1:9000
//
// A whpk_ key verifies signatures v1a (Ed25519), a whsec_ secret v1 (HMAC).
import static java.nio.charset.StandardCharsets.UTF_8;

import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpServer;
import java.io.ByteArrayOutputStream;
import java.net.InetSocketAddress;
import java.security.KeyFactory;
import java.security.MessageDigest;
import java.security.PublicKey;
import java.security.Signature;
import java.security.spec.X509EncodedKeySpec;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

public final class Receiver {
    public static void main(String[] args) throws Exception {
        String[] address = (args.length > 0 ? args[0] : "127.0.0.1:9000").split(":");
        String secret = System.getenv("WEBHOOK_SECRET");
        if (secret == null || secret.isEmpty()) {
            System.err.println("set WEBHOOK_SECRET to the subscription's secret");
            System.exit(2);
        }
        byte[] key = Base64.getDecoder().decode(secret.replaceFirst("^wh(sec|pk)_", ""));
        HttpServer server = HttpServer.create(new InetSocketAddress(address[0], Integer.parseInt(address[1])), 0);
        server.setExecutor(Executors.newCachedThreadPool());
        server.createContext("/", request -> {
            byte[] body = request.getRequestBody().readAllBytes(); // the raw bytes: what is signed
            boolean good = false;
            try {
                good = verify(secret.startsWith("whpk_"), key, request.getRequestHeaders(), body);
            } catch (Exception problem) { // whatever is wrong with a request: it is not to be believed
                System.out.println(problem);
            }
            if (good) {
                take(new String(body, UTF_8), request.getRequestHeaders().getFirst("webhook-id"));
            } else {
                System.out.println("refused");
            }
            request.sendResponseHeaders(good ? 204 : 401, -1);
            request.close();
        });
        server.start();
    }

    static final Set<String> seen = ConcurrentHashMap.newKeySet(); // of ids; yours is a table, written in the transaction of your own work

    /** Works off the events of a request that was verified: of one event, or a batch with an id of its own as the first key of each. */
    static void take(String body, String id) {
        boolean batch = body.startsWith("[");
        for (String event : batch ? elements(body) : List.of(body)) {
            String own = batch ? event.substring("{\"id\":\"".length(), event.indexOf('"', "{\"id\":\"".length())) : id;
            if (seen.add(own)) { // else it came before, alone or in another batch
                System.out.println(own + " " + event);
            }
        }
    }

    /** The objects of a JSON array, as a JSON library would find them: no comma or brace within a string counts. */
    static List<String> elements(String array) {
        List<String> all = new ArrayList<>();
        int depth = 0, from = 0;
        boolean text = false;
        for (int i = 0; i < array.length(); i++) {
            char c = array.charAt(i);
            if (text && c == '\\') {
                i++;
            } else if (c == '"') {
                text = !text;
            } else if (!text && (c == '{' || c == '[') && depth++ == 1) {
                from = i;
            } else if (!text && (c == '}' || c == ']') && --depth == 1) {
                all.add(array.substring(from, i + 1));
            }
        }
        return all;
    }

    static boolean verify(boolean v1a, byte[] key, Headers headers, byte[] body) throws Exception {
        String id = headers.getFirst("webhook-id"), timestamp = headers.getFirst("webhook-timestamp");
        if (Math.abs(Instant.now().getEpochSecond() - Long.parseLong(timestamp)) > 300) {
            return false;
        }
        ByteArrayOutputStream signed = new ByteArrayOutputStream();
        signed.writeBytes((id + "." + timestamp + ".").getBytes(UTF_8));
        signed.writeBytes(body);
        boolean good = false;
        for (String each : headers.getFirst("webhook-signature").split(" ")) {
            String[] parts = each.split(",", 2);
            if (parts.length == 2 && parts[0].equals(v1a ? "v1a" : "v1")) {
                byte[] signature = Base64.getDecoder().decode(parts[1]);
                good |= v1a ? ed25519(key, signed.toByteArray(), signature) : MessageDigest.isEqual(hmac(key, signed.toByteArray()), signature);
            }
        }
        return good;
    }

    static byte[] hmac(byte[] key, byte[] signed) throws Exception {
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(key, "HmacSHA256"));
        return mac.doFinal(signed);
    }

    static boolean ed25519(byte[] key, byte[] signed, byte[] signature) throws Exception {
        // RFC 8410: what stands before the 32 bytes of an Ed25519 key.
        ByteArrayOutputStream encoded = new ByteArrayOutputStream();
        encoded.writeBytes(new byte[] {0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00});
        encoded.writeBytes(key);
        PublicKey publicKey = KeyFactory.getInstance("Ed25519").generatePublic(new X509EncodedKeySpec(encoded.toByteArray()));
        Signature verifier = Signature.getInstance("Ed25519");
        verifier.initVerify(publicKey);
        verifier.update(signed);
        return verifier.verify(signature);
    }
}
