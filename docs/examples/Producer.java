// Writes events, one JSON object a line, to a source topic. It fails if one of them was not acknowledged.
//
//   java -cp 'kafka-clients and what it needs/*' Producer.java TOPIC KEY < events.jsonl
//
// KAFKA (127.0.0.1:9092) names brokers; COMPRESSION (none) is gzip, snappy, lz4 or zstd; TIMEOUT_MS (30000) is how long an
// acknowledgement may take; TRACEPARENT goes on to the receiver. With TRANSACTIONAL_ID all lines are delivered, or none.
import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.StringSerializer;

public final class Producer {
    public static void main(String[] args) throws Exception {
        if (args.length != 2) {
            System.err.println("usage: java … Producer.java TOPIC KEY < events.jsonl");
            System.exit(2);
        }
        Map<String, String> env = System.getenv();
        String timeout = env.getOrDefault("TIMEOUT_MS", "30000");
        Properties settings = new Properties();
        settings.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, env.getOrDefault("KAFKA", "127.0.0.1:9092"));
        settings.put(ProducerConfig.ACKS_CONFIG, "all");
        settings.put(ProducerConfig.ENABLE_IDEMPOTENCE_CONFIG, true);
        settings.put(ProducerConfig.COMPRESSION_TYPE_CONFIG, env.getOrDefault("COMPRESSION", "none"));
        settings.put(ProducerConfig.MAX_BLOCK_MS_CONFIG, timeout);
        settings.put(ProducerConfig.REQUEST_TIMEOUT_MS_CONFIG, Integer.parseInt(timeout) / 2);
        settings.put(ProducerConfig.DELIVERY_TIMEOUT_MS_CONFIG, timeout);
        String transactional = env.get("TRANSACTIONAL_ID");
        if (transactional != null) {
            settings.put(ProducerConfig.TRANSACTIONAL_ID_CONFIG, transactional);
        }
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            if (transactional != null) {
                producer.initTransactions();
                producer.beginTransaction();
            }
            try {
                write(producer, args[0], args[1], env.get("TRACEPARENT"));
                if (transactional != null) {
                    producer.commitTransaction();
                }
            } catch (Exception problem) {
                if (transactional != null) {
                    producer.abortTransaction();
                }
                throw problem;
            }
        } catch (Exception problem) {
            System.err.println("not everything was written: " + (problem.getCause() != null ? problem.getCause() : problem));
            System.exit(1);
        }
    }

    private static void write(KafkaProducer<String, String> producer, String topic, String key, String trace) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            if (!line.startsWith("{")) {
                throw new IllegalArgumentException("an event is a JSON object");
            }
            ProducerRecord<String, String> event = new ProducerRecord<>(topic, key, line);
            if (trace != null) {
                event.headers().add("traceparent", trace.getBytes(UTF_8));
            }
            sent.add(producer.send(event));
        }
        producer.flush();
        for (Future<RecordMetadata> each : sent) {
            RecordMetadata place = each.get(); // throws what the delivery failed with
            System.out.println(place.topic() + "/" + place.partition() + "/" + place.offset()); // what `fanout explain` takes
        }
    }
}
