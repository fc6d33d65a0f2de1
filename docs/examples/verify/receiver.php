<?php
// Takes webhooks whose signature is right, each event once, and answers 401 to others. A batch is verified once. PHP 8.1 or newer, no
// dependency.
//
//   WEBHOOK_SECRET=whsec_… WEBHOOK_SEEN=/var/lib/webhooks php -S 127.0.0.1:9000 receiver.php
//
// A whpk_ key verifies signatures v1a (Ed25519), a whsec_ secret v1 (HMAC).

http_response_code(500); // unless it goes well: then the request comes again
$secret = getenv("WEBHOOK_SECRET") ?: exit("set WEBHOOK_SECRET to the subscription's secret");
$body = file_get_contents("php://input"); // the raw bytes: what is signed
$headers = array_change_key_case(getallheaders());
if (!verify($secret, $headers, $body)) {
    note("refused");
    http_response_code(401);
    return;
}
take($body, $headers["webhook-id"]);
http_response_code(204);

function verify(string $secret, array $headers, string $body): bool
{
    $v1a = str_starts_with($secret, "whpk_");
    $key = base64_decode(preg_replace("/^wh(sec|pk)_/", "", $secret), true) ?: exit("WEBHOOK_SECRET is not base64");
    $id = $headers["webhook-id"] ?? "";
    $timestamp = $headers["webhook-timestamp"] ?? "";
    if ($id === "" || !ctype_digit($timestamp) || abs(time() - (int) $timestamp) > 300) {
        return false;
    }
    foreach (explode(" ", $headers["webhook-signature"] ?? "") as $each) {
        [$version, $text] = explode(",", $each, 2) + ["", ""];
        $signature = base64_decode($text, true);
        if ($version === ($v1a ? "v1a" : "v1") && $signature && matches($v1a, $key, "$id.$timestamp.$body", $signature)) {
            return true;
        }
    }
    return false;
}

function matches(bool $v1a, string $key, string $signed, string $signature): bool
{
    if ($v1a) {
        return strlen($signature) === SODIUM_CRYPTO_SIGN_BYTES && sodium_crypto_sign_verify_detached($signature, $signed, $key);
    }
    return hash_equals(hash_hmac("sha256", $signed, $key, true), $signature);
}

// take works off the events of a request that was verified: of one event, or a batch with an id of its own in each.
function take(string $body, string $id): void
{
    $parsed = json_decode($body, true, 512, JSON_THROW_ON_ERROR);
    foreach (array_is_list($parsed) ? $parsed : [["id" => $id] + $parsed] as $event) {
        if (isNew($event["id"])) { // else it came before, alone or in another batch
            note($event["id"] . " " . json_encode($event, JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES));
        }
    }
}

// isNew makes a file of the id's name, which only one can do; yours is a row, written in the transaction of your own work.
function isNew(string $id): bool
{
    $file = (getenv("WEBHOOK_SEEN") ?: sys_get_temp_dir()) . "/" . basename($id);
    return @fopen($file, "x") !== false || !is_file($file) && throw new RuntimeException("cannot write $file");
}

function note(string $line): void
{
    file_put_contents("php://stderr", "$line\n");
}
