package smvm;

import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.Key;
import java.security.KeyFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.security.spec.X509EncodedKeySpec;
import java.util.Base64;
import java.util.Optional;
import javax.crypto.spec.SecretKeySpec;

/**
 * The keys of a secret of type jwt, for your JWT library: sign with signing(), and put its kid
 * into the token's header; verify with the one that kid names. Let the library accept
 * no other algorithm than that of the key.
 */
public record JwtKeys(Source source, String secret) {
    /** A key, its id, and the only algorithm that it is for, such as RS256. */
    public record JwtKey(String kid, String algorithm, Key key) {
        @Override
        public String toString() {
            return kid;
        }
    }

    /**
     * The key to sign with: the current one, but for one refresh after a rotation the previous one,
     * because other instances may not have read the new one yet. It is an HMAC key or an exportable
     * private key. For one that stays in the engine, ask smvm/jwt/&lt;role&gt;/&lt;secret&gt;/sign.
     */
    public JwtKey signing() {
        Credentials current = source.current();
        Credentials confirmed = source.confirmed();
        boolean accepted = confirmed.value(secret, "kid").equals(current.value(secret, "previous_kid"));
        // After a rollback the current key is one that is known.
        boolean known = confirmed.value(secret, "previous_kid").equals(current.value(secret, "kid"));
        return key(accepted && !known ? confirmed : current, "", "private_key")
            .orElseThrow(() -> new IllegalStateException("sign token: the credentials have no " + secret + " that signs"));
    }

    /**
     * The key of that id, to verify with: the current one, or in the overlap the previous one. An
     * id that is neither makes the source read again, because another instance may have seen a
     * rotation first.
     */
    public Optional<JwtKey> verifying(String kid) {
        return source.settle(credentials -> {
            for (String stage : new String[] {"", "previous_"}) {
                if (kid != null && !kid.isEmpty() && kid.equals(credentials.value(secret, stage + "kid"))) {
                    return key(credentials, stage, "public_key");
                }
            }
            return Optional.empty();
        });
    }

    private Optional<JwtKey> key(Credentials credentials, String stage, String pem) {
        String hmac = credentials.value(secret, stage + "secret");
        String text = credentials.value(secret, stage + pem);
        String algorithm = credentials.value(secret, stage + "algorithm");
        if (hmac.isEmpty() && text.isEmpty()) {
            return Optional.empty();
        }
        Key key = hmac.isEmpty()
            ? decoded(text, algorithm)
            : new SecretKeySpec(hmac.getBytes(StandardCharsets.UTF_8), "HmacSHA" + algorithm.substring(2));
        return Optional.of(new JwtKey(credentials.value(secret, stage + "kid"), algorithm, key));
    }

    private static Key decoded(String pem, String algorithm) {
        byte[] der = Base64.getMimeDecoder().decode(pem.replaceAll("-----[A-Z ]+-----", ""));
        try {
            KeyFactory factory = KeyFactory.getInstance(algorithm.startsWith("ES") ? "EC" : algorithm.equals("EdDSA") ? "EdDSA" : "RSA");
            return pem.contains("PRIVATE") ? factory.generatePrivate(new PKCS8EncodedKeySpec(der)) : factory.generatePublic(new X509EncodedKeySpec(der));
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException("read a key for " + algorithm + ": it is none"); // the cause may quote it
        }
    }
}
