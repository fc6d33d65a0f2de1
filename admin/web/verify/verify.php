<?php
// PHP 8.0 or newer, no dependency. $headers have names in lower case: array_change_key_case(getallheaders()).
// $body is the raw request body, before any JSON parsing: file_get_contents("php://input").
function verify(string $secret, array $headers, string $body, int $tolerance = 300): bool
{
    $id = $headers["webhook-id"] ?? "";
    $timestamp = $headers["webhook-timestamp"] ?? "";
    $key = base64_decode(preg_replace("/^whsec_/", "", $secret), true);
    if ($id === "" || !ctype_digit($timestamp) || abs(time() - (int) $timestamp) > $tolerance || !$key) {
        return false;
    }
    $want = "v1," . base64_encode(hash_hmac("sha256", "$id.$timestamp.$body", $key, true));
    foreach (explode(" ", $headers["webhook-signature"] ?? "") as $signature) {
        if (hash_equals($want, $signature)) {
            return true;
        }
    }
    return false;
}
