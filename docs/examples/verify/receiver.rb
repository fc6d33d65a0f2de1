# Takes webhooks whose signature is right, each event once, and answers 401 to others. A batch is verified once.
#
#   gem install webrick
#   WEBHOOK_SECRET=whsec_… ruby receiver.rb 127.0.0.1:9000
#
# A whpk_ key verifies signatures v1a (Ed25519), a whsec_ secret v1 (HMAC).
require "json"
require "openssl"
require "webrick"

SECRET = ENV["WEBHOOK_SECRET"] or abort "set WEBHOOK_SECRET to the subscription's secret"
V1A = SECRET.start_with?("whpk_")
RAW = SECRET.sub(/\Awh(sec|pk)_/, "").unpack1("m0")
KEY = V1A ? OpenSSL::PKey.read(["302a300506032b6570032100"].pack("H*") + RAW) : RAW # RFC 8410: what stands before an Ed25519 key
SEEN, LOCK = {}, Mutex.new # of ids; yours is a table, written in the transaction of your own work

def verify(request, body)
  id, timestamp = request["webhook-id"], request["webhook-timestamp"]
  return false unless id && (Time.now.to_i - Integer(timestamp, 10)).abs <= 300

  signed = "#{id}.#{timestamp}.".b + body
  request["webhook-signature"].to_s.split(" ").any? do |each|
    version, text = each.split(",", 2)
    version == (V1A ? "v1a" : "v1") && matches?(signed, text.to_s.unpack1("m0"))
  end
rescue ArgumentError, TypeError, OpenSSL::PKey::PKeyError # whatever is wrong with a request: it is not to be believed
  false
end

def matches?(signed, signature)
  V1A ? KEY.verify(nil, signature, signed) : OpenSSL.secure_compare(OpenSSL::HMAC.digest("SHA256", KEY, signed), signature)
end

# Works off the events of a request that was verified: of one event, or a batch with an id of its own in each.
def take(body, id)
  parsed = JSON.parse(body)
  (parsed.is_a?(Array) ? parsed : [parsed.merge("id" => id)]).each do |event|
    fresh = LOCK.synchronize { !SEEN.key?(event["id"]) && SEEN[event["id"]] = true }
    puts "#{event["id"]} #{JSON.generate(event)}" if fresh # else it came before, alone or in another batch
  end
end

$stdout.sync = true
host, port = (ARGV[0] || "127.0.0.1:9000").split(":")
server = WEBrick::HTTPServer.new(BindAddress: host, Port: port.to_i, AccessLog: [], Logger: WEBrick::Log.new(nil, WEBrick::Log::ERROR))
server.mount_proc("/") do |request, response|
  body = request.body.to_s # the raw bytes: what is signed
  if verify(request, body)
    take(body, request["webhook-id"])
    response.status = 204
  else
    puts "refused"
    response.status = 401
  end
end
server.start
