// .NET 6 or newer, or Mono 6; no dependency. body is the raw request body, before any JSON parsing.
using System;
using System.Linq;
using System.Security.Cryptography;
using System.Text;

public static class Webhooks
{
    public static bool Verify(string secret, string id, string timestamp, string signatures, byte[] body, long toleranceSeconds = 300)
    {
        long now = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
        if (string.IsNullOrEmpty(id) || signatures == null || !long.TryParse(timestamp, out long sent)
            || sent < now - toleranceSeconds || sent > now + toleranceSeconds)
        {
            return false;
        }
        byte[] signed = Encoding.UTF8.GetBytes($"{id}.{timestamp}.").Concat(body).ToArray();
        using (var hmac = new HMACSHA256(Convert.FromBase64String(secret.Replace("whsec_", ""))))
        {
            byte[] want = Encoding.UTF8.GetBytes("v1," + Convert.ToBase64String(hmac.ComputeHash(signed)));
            return signatures.Split(' ').Any(s => CryptographicOperations.FixedTimeEquals(Encoding.UTF8.GetBytes(s), want));
        }
    }
}
