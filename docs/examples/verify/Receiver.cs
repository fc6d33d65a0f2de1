// Takes webhooks whose signature is right, each event once, and answers 401 to others. A batch is verified once. .NET, or Mono 6; no
// dependency.
//
//   mcs -r:System.Runtime.Serialization Receiver.cs
//   WEBHOOK_SECRET=whsec_… mono Receiver.exe 127.0.0.1:9000
//
// It verifies signatures v1 (HMAC). .NET has no Ed25519 of its own: for a whpk_ key take a library such as NSec.
using System;
using System.Collections.Concurrent;
using System.IO;
using System.Linq;
using System.Net;
using System.Runtime.Serialization.Json;
using System.Security.Cryptography;
using System.Text;
using System.Threading;
using System.Xml;

public static class Receiver
{
    static readonly ConcurrentDictionary<string, bool> Seen = new ConcurrentDictionary<string, bool>(); // of ids; yours is a table

    public static int Main(string[] args)
    {
        string secret = Environment.GetEnvironmentVariable("WEBHOOK_SECRET") ?? "";
        if (!secret.StartsWith("whsec_"))
        {
            Console.Error.WriteLine("set WEBHOOK_SECRET to the subscription's secret, whsec_…");
            return 2;
        }
        byte[] key = Convert.FromBase64String(secret.Substring("whsec_".Length));
        var listener = new HttpListener();
        listener.Prefixes.Add($"http://{(args.Length > 0 ? args[0] : "127.0.0.1:9000")}/");
        listener.Start();
        while (true)
        {
            HttpListenerContext context = listener.GetContext();
            ThreadPool.QueueUserWorkItem(_ => Answer(context.Request, context.Response, key));
        }
    }

    static void Answer(HttpListenerRequest request, HttpListenerResponse response, byte[] key)
    {
        try
        {
            var body = new MemoryStream(); // the raw bytes: what is signed
            request.InputStream.CopyTo(body);
            string id = request.Headers["webhook-id"];
            if (Verify(key, id, request.Headers["webhook-timestamp"], request.Headers["webhook-signature"], body.ToArray()))
            {
                Take(body.ToArray(), id);
                response.StatusCode = 204;
            }
            else
            {
                Console.WriteLine("refused");
                response.StatusCode = 401;
            }
        }
        catch (Exception problem)
        {
            Console.WriteLine(problem);
            response.StatusCode = 500; // so that it comes again
        }
        response.Close();
    }

    static bool Verify(byte[] key, string id, string timestamp, string signatures, byte[] body)
    {
        long now = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
        if (string.IsNullOrEmpty(id) || signatures == null || !long.TryParse(timestamp, out long sent) || sent < now - 300 || sent > now + 300)
        {
            return false;
        }
        byte[] signed = Encoding.UTF8.GetBytes($"{id}.{timestamp}.").Concat(body).ToArray();
        using (var hmac = new HMACSHA256(key))
        {
            byte[] want = Encoding.UTF8.GetBytes("v1," + Convert.ToBase64String(hmac.ComputeHash(signed)));
            return signatures.Split(' ').Any(s => CryptographicOperations.FixedTimeEquals(Encoding.UTF8.GetBytes(s), want));
        }
    }

    // Take works off the events of a request that was verified: of one event, or a batch with an id of its own in each. It reads the JSON
    // with what Mono has as well; with .NET alone, take System.Text.Json.
    static void Take(byte[] body, string id)
    {
        var json = new XmlDocument();
        using (XmlReader reader = JsonReaderWriterFactory.CreateJsonReader(body, XmlDictionaryReaderQuotas.Max))
        {
            json.Load(reader);
        }
        bool batch = json.DocumentElement.GetAttribute("type") == "array";
        foreach (XmlElement element in (batch ? json.DocumentElement : (XmlNode)json).ChildNodes)
        {
            string own = batch ? element["id"].InnerText : id;
            if (Seen.TryAdd(own, true)) // else it came before, alone or in another batch
            {
                Console.WriteLine(own + " " + string.Join(", ", element.ChildNodes.Cast<XmlElement>().Select(e => $"\"{e.Name}\": \"{e.InnerText}\"")));
            }
        }
    }
}
