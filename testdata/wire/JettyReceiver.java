import org.eclipse.jetty.io.Content;
import org.eclipse.jetty.server.Handler;
import org.eclipse.jetty.server.Request;
import org.eclipse.jetty.server.Response;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.util.Callback;

/** A receiver on Jetty with its defaults: java JettyReceiver.java PORT. It prints what it reads. */
public class JettyReceiver {
  public static void main(String[] args) throws Exception {
    var server = new Server();
    var connector = new ServerConnector(server);
    connector.setHost("127.0.0.1");
    connector.setPort(Integer.parseInt(args[0]));
    connector.setIdleTimeout(1000);
    server.addConnector(connector);
    server.setHandler(new Handler.Abstract() {
      @Override
      public boolean handle(Request request, Response response, Callback callback) throws Exception {
        int length = Content.Source.asByteBuffer(request).remaining();
        System.out.println(String.join("\t", request.getMethod(), request.getHttpURI().getPathQuery(), request.getHeaders().get("host"), "" + length, request.getHeaders().get("webhook-id"), "" + Request.getRemotePort(request)));
        response.setStatus(204);
        callback.succeeded();
        return true;
      }
    });
    server.start();
    server.join();
  }
}
