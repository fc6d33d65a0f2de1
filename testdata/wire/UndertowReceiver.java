import io.undertow.Undertow;
import io.undertow.UndertowOptions;
import io.undertow.server.handlers.BlockingHandler;

/** A receiver on Undertow with its defaults: java UndertowReceiver.java PORT. It prints what it reads. */
public class UndertowReceiver {
  public static void main(String[] args) {
    Undertow.builder()
        .addHttpListener(Integer.parseInt(args[0]), "127.0.0.1")
        .setServerOption(UndertowOptions.NO_REQUEST_TIMEOUT, 1000)
        .setHandler(new BlockingHandler(exchange -> {
          int length = exchange.getInputStream().readAllBytes().length;
          String query = exchange.getQueryString().isEmpty() ? "" : "?" + exchange.getQueryString();
          System.out.println(String.join("\t", exchange.getRequestMethod().toString(), exchange.getRequestURI() + query, exchange.getRequestHeaders().getFirst("host"), "" + length, exchange.getRequestHeaders().getFirst("webhook-id"), "" + exchange.getSourceAddress().getPort()));
          exchange.setStatusCode(204);
        }))
        .build()
        .start();
  }
}
