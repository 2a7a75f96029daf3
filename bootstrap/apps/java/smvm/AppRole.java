package smvm;

import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** Logs in with the two files of Vault's AppRole method. It reads them at each login. */
public final class AppRole {
    private static final String LOGIN = "auth/approle/login";

    private final Path roleIdFile;
    private final Path secretIdFile;
    private String token;
    private long until; // by System.nanoTime(): to be replaced from then on

    /** Takes the paths of the files. */
    public AppRole(Path roleIdFile, Path secretIdFile) {
        this.roleIdFile = roleIdFile;
        this.secretIdFile = secretIdFile;
    }

    /** A token that is valid. After two thirds of its life it is replaced. */
    synchronized String token(Vault vault) throws IOException {
        if (token == null || System.nanoTime() - until > 0) {
            JsonObject body = new JsonObject();
            body.addProperty("role_id", Files.readString(roleIdFile).strip());
            body.addProperty("secret_id", Files.readString(secretIdFile).strip());
            JsonObject auth = vault.call("POST", LOGIN, body, null).getAsJsonObject("auth");
            long seconds = auth.get("lease_duration").getAsLong();
            token = auth.get("client_token").getAsString();
            // Zero is a token that does not end.
            until = System.nanoTime() + (seconds == 0 ? Long.MAX_VALUE / 2 : seconds * 1_000_000_000 / 3 * 2);
        }
        return token;
    }

    /** Hears that Vault has refused the last token. */
    synchronized void refused() {
        token = null;
    }
}
