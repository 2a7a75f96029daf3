package smvm;

import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;

/**
 * Logs in with the two files of Vault's AppRole method. It reads them at each login. When Vault
 * refuses them, they are offered again after 16 minutes only, or as soon as they have changed:
 * some more refused logins would lock the role_id out for all who use it.
 */
public final class AppRole {
    private static final String LOGIN = "auth/approle/login";
    // After a refused login. Vault counts refused logins for each role_id: 5 of them, each less
    // than 15 minutes after the one before, lock it out for 15 minutes, for all who use it. While it
    // is locked out (403), logins are not counted.
    private static final Duration REFUSED_PAUSE = Duration.ofMinutes(16);
    private static final Duration LOCKED_PAUSE = Duration.ofMinutes(1);

    private final Path roleIdFile;
    private final Path secretIdFile;
    private String token;
    private long until; // by System.nanoTime(): to be replaced from then on
    private JsonObject refused; // the login that Vault refused; it is not offered again until refusedUntil
    private long refusedUntil;
    private IOException refusal;

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
            JsonObject auth = logIn(vault, body).getAsJsonObject("auth");
            long seconds = auth.get("lease_duration").getAsLong();
            token = auth.get("client_token").getAsString();
            // Zero is a token that does not end.
            until = System.nanoTime() + (seconds == 0 ? Long.MAX_VALUE / 2 : seconds * 1_000_000_000 / 3 * 2);
        }
        return token;
    }

    private JsonObject logIn(Vault vault, JsonObject body) throws IOException {
        if (body.equals(refused) && System.nanoTime() - refusedUntil < 0) {
            throw refusal;
        }
        try {
            return vault.call("POST", LOGIN, body, null);
        } catch (Vault.StatusException e) {
            if (e.status() != 400 && e.status() != 403) {
                throw e;
            }
            String cause = e.status() == 400
                ? "the secret_id in " + secretIdFile + " is wrong or has ended, or the role_id in " + roleIdFile + " is. Next try when a file"
                    + " has changed, or in 16 minutes: after 5 wrong logins Vault locks the role_id out for all who use it"
                : "too many wrong logins have locked the role_id of " + roleIdFile + " out for all who use it (`vault read"
                    + " sys/locked-users` tells), or the mount of the login is wrong. Next try in a minute";
            refused = body;
            refusedUntil = System.nanoTime() + (e.status() == 400 ? REFUSED_PAUSE : LOCKED_PAUSE).toNanos();
            refusal = new IOException("log in to Vault: " + e.getMessage() + "; " + cause);
            throw refusal;
        }
    }

    /** Hears that Vault has refused the last token. */
    synchronized void refused() {
        token = null;
    }
}
