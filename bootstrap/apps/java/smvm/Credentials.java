package smvm;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.time.Duration;
import java.util.Map;
import java.util.NavigableMap;
import java.util.Set;
import java.util.TreeMap;

/** The values of a role at one version. They do not change, and are not shown when it is printed. */
public final class Credentials {
    private static final Set<String> TIMES = Set.of("ttl", "rotation_period", "next_vault_rotation");
    private static final Duration MAX_TTL = Duration.ofDays(1);

    private final long version;
    private final Duration ttl;
    private final NavigableMap<String, String> values = new TreeMap<>();

    /** Makes credentials of what creds answers. */
    public Credentials(JsonObject data) throws IOException {
        try {
            version = data.get("version").getAsLong();
            // The ttl is cut to whole seconds, so what it waits for comes within the next.
            Duration wait = Duration.ofSeconds(data.get("ttl").getAsLong() + 1);
            ttl = wait.compareTo(MAX_TTL) < 0 ? wait : MAX_TTL;
        } catch (RuntimeException e) {
            throw new IOException("read the answer: it has no version or no ttl; is this the path of smvm/creds/<role>?");
        }
        for (Map.Entry<String, JsonElement> each : data.entrySet()) {
            if (each.getValue().isJsonPrimitive() && !TIMES.contains(each.getKey())) {
                values.put(each.getKey(), each.getValue().getAsString());
            }
        }
    }

    /** The role's version; every committed change makes it larger. */
    public long version() {
        return version;
    }

    /** How long to wait before reading again. */
    public Duration ttl() {
        return ttl;
    }

    /** A field of a secret, such as "password" of "db"; empty if there is none. */
    public String value(String secret, String field) {
        return values.getOrDefault(secret + "_" + field, "");
    }

    boolean sameAs(Credentials other) {
        return values.equals(other.values);
    }

    /** Whether all fields of one secret are the same. */
    boolean sameAs(Credentials other, String secret) {
        return fields(secret).equals(other.fields(secret));
    }

    private Map<String, String> fields(String secret) {
        return values.subMap(secret + "_", secret + (char) ('_' + 1));
    }
}
