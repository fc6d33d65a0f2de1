# Ruby 2.7 or newer, no dependency. headers have names in lower case; body is the raw request body, before any JSON parsing.
require "openssl"

def verify(secret, headers, body, tolerance = 300)
  id, timestamp, signatures = headers.values_at("webhook-id", "webhook-timestamp", "webhook-signature")
  return false unless id && signatures && (Time.now.to_i - Integer(timestamp, 10)).abs <= tolerance

  key = secret.delete_prefix("whsec_").unpack1("m0")
  want = "v1," + [OpenSSL::HMAC.digest("SHA256", key, "#{id}.#{timestamp}.".b + body.b)].pack("m0")
  signatures.split(" ").any? { |signature| OpenSSL.secure_compare(signature, want) }
rescue ArgumentError, TypeError
  false
end
