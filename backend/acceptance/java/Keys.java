import java.nio.file.Path;
import java.security.PrivateKey;
import java.security.PublicKey;
import java.security.Signature;
import java.util.Arrays;
import java.util.Map;
import javax.crypto.Mac;
import smvm.AgentFile;
import smvm.Credentials;
import smvm.JwtKeys;
import smvm.Source;

/** Signs with the current key of a file with credentials, and prints the ids of the keys that it has. */
final class Keys {
    private static final Map<String, String> SIGNATURES =
        Map.of("RS256", "SHA256withRSA", "ES256", "SHA256withECDSA", "EdDSA", "EdDSA");

    private Keys() {}

    public static void main(String[] arguments) throws Exception {
        try (Source source = Source.open(new AgentFile(Path.of(arguments[0])))) {
            JwtKeys keys = new JwtKeys(source, "jwt");
            JwtKeys.JwtKey signing = keys.signing();
            JwtKeys.JwtKey verifying = keys.verifying(signing.kid()).orElseThrow();
            byte[] text = "a token".getBytes();
            if (signing.algorithm().equals("HS256")) {
                check(Arrays.equals(mac(signing, text), mac(verifying, text)));
            } else {
                check(verified(verifying, text, signed(signing, text)));
            }
            Credentials current = source.current();
            JwtKeys.JwtKey previous = keys.verifying(current.value("jwt", "previous_kid")).orElseThrow();
            check(keys.verifying("another").isEmpty());
            check(!previous.key().equals(verifying.key()));
            System.out.println(signing.kid() + " " + previous.kid());
        }
    }

    private static byte[] mac(JwtKeys.JwtKey key, byte[] text) throws Exception {
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(key.key());
        return mac.doFinal(text);
    }

    private static byte[] signed(JwtKeys.JwtKey key, byte[] text) throws Exception {
        Signature signature = Signature.getInstance(SIGNATURES.get(key.algorithm()));
        signature.initSign((PrivateKey) key.key());
        signature.update(text);
        return signature.sign();
    }

    private static boolean verified(JwtKeys.JwtKey key, byte[] text, byte[] signed) throws Exception {
        Signature signature = Signature.getInstance(SIGNATURES.get(key.algorithm()));
        signature.initVerify((PublicKey) key.key());
        signature.update(text);
        return signature.verify(signed);
    }

    private static void check(boolean good) {
        if (!good) {
            throw new AssertionError();
        }
    }
}
