import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.nio.file.Files;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.startup.Tomcat;

/** A receiver on Tomcat with its defaults: java TomcatReceiver.java PORT. It prints what it reads. */
public class TomcatReceiver {
  public static void main(String[] args) throws Exception {
    var tomcat = new Tomcat();
    tomcat.setBaseDir(Files.createTempDirectory("tomcat").toString());
    var connector = new Connector();
    connector.setPort(Integer.parseInt(args[0]));
    connector.setProperty("address", "127.0.0.1");
    connector.setProperty("keepAliveTimeout", "1000");
    connector.setProperty("maxKeepAliveRequests", "-1");
    tomcat.setConnector(connector);
    var context = tomcat.addContext("", null);
    Tomcat.addServlet(context, "receiver", new HttpServlet() {
      @Override
      protected void doPost(HttpServletRequest request, HttpServletResponse response) throws IOException {
        int length = request.getInputStream().readAllBytes().length;
        String query = request.getQueryString() == null ? "" : "?" + request.getQueryString();
        System.out.println(String.join("\t", request.getMethod(), request.getRequestURI() + query, request.getHeader("host"), "" + length, request.getHeader("webhook-id"), "" + request.getRemotePort()));
        response.setStatus(204);
      }
    });
    context.addServletMappingDecoded("/*", "receiver");
    tomcat.start();
    tomcat.getServer().await();
  }
}
