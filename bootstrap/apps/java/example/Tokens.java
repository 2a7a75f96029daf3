package example;

import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.time.Instant;
import java.util.Base64;
import java.util.Optional;
import javax.crypto.Mac;
import smvm.JwtKeys;

/**
 * JWTs with HMAC, as far as the example needs them. Do not copy this: give the keys of
 * {@link JwtKeys} to a library for JWTs. Debian packages none, so this stands in for one.
 */
record Tokens(JwtKeys keys) {
    private static final String ISSUER = "smvm-api";

    /** Signs, and names the key in the header. */
    String sign(String subject, Instant expires) {
        JwtKeys.JwtKey key = keys.signing(); // rotation
        JsonObject header = new JsonObject();
        header.addProperty("alg", key.algorithm());
        header.addProperty("kid", key.kid());
        JsonObject claims = new JsonObject();
        claims.addProperty("iss", ISSUER);
        claims.addProperty("sub", subject);
        claims.addProperty("exp", expires.getEpochSecond());
        String signed = encoded(header) + "." + encoded(claims);
        return signed + "." + Base64.getUrlEncoder().withoutPadding().encodeToString(mac(key, signed));
    }

    /** Verifies with the key that the header names, by the algorithm of that key. */
    boolean accepts(String token) {
        String[] parts = token.split("\\.", -1);
        if (parts.length != 3) {
            return false;
        }
        try {
            JsonObject header = decoded(parts[0]);
            Optional<JwtKeys.JwtKey> key = keys.verifying(header.get("kid").getAsString()); // rotation
            if (key.isEmpty() || !key.get().algorithm().equals(header.get("alg").getAsString())) {
                return false;
            }
            byte[] signature = Base64.getUrlDecoder().decode(parts[2]);
            JsonObject claims = decoded(parts[1]);
            return MessageDigest.isEqual(signature, mac(key.get(), parts[0] + "." + parts[1]))
                && ISSUER.equals(claims.get("iss").getAsString()) && claims.get("exp").getAsLong() > Instant.now().getEpochSecond();
        } catch (IllegalArgumentException | IllegalStateException | JsonParseException | NullPointerException | UnsupportedOperationException e) {
            return false; // it is no token
        }
    }

    private static byte[] mac(JwtKeys.JwtKey key, String text) {
        try {
            Mac mac = Mac.getInstance(key.key().getAlgorithm());
            mac.init(key.key());
            return mac.doFinal(text.getBytes(StandardCharsets.UTF_8));
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException("the example signs with HMAC only");
        }
    }

    private static String encoded(JsonObject part) {
        return Base64.getUrlEncoder().withoutPadding().encodeToString(part.toString().getBytes(StandardCharsets.UTF_8));
    }

    private static JsonObject decoded(String part) {
        return JsonParser.parseString(new String(Base64.getUrlDecoder().decode(part), StandardCharsets.UTF_8)).getAsJsonObject();
    }
}
