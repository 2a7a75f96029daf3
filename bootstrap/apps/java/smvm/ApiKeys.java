package smvm;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.Optional;

/** API keys: accepts the current and the previous value of a secret of type api_key. */
public final class ApiKeys {
    private ApiKeys() {}

    /**
     * Whether offered is the current key, or in the overlap the previous one. How long a
     * comparison takes tells nothing about the keys. A key that is neither makes the source read
     * again, because whoever sends it may have seen a rotation first: that takes 3 seconds at
     * most. For a secret with hash_only the hashes are compared.
     */
    public static boolean accepts(Source source, String secret, String offered) {
        Credentials current = source.current();
        if (current.value(secret, "key").isEmpty() && current.value(secret, "key_sha256").isEmpty()) {
            throw new IllegalStateException("compare API key: the credentials have no " + secret + " with keys"); // nobody could get in
        }
        if (offered == null || offered.isEmpty()) {
            return false;
        }
        byte[] digest = sha256(offered);
        return source.settle(credentials -> accepts(credentials, secret, digest) ? Optional.of(true) : Optional.empty()).isPresent();
    }

    /** Compares digests, which have the same length whatever was offered, and always both. */
    private static boolean accepts(Credentials credentials, String secret, byte[] digest) {
        boolean accepted = false;
        for (String stage : new String[] {"", "previous_"}) {
            String key = credentials.value(secret, stage + "key");
            byte[] expected = key.isEmpty() ? HexFormat.of().parseHex(credentials.value(secret, stage + "key_sha256")) : sha256(key);
            accepted |= MessageDigest.isEqual(digest, expected);
        }
        return accepted;
    }

    private static byte[] sha256(String text) {
        try {
            return MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e); // every JVM has it
        }
    }
}
