package smvm;

import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** Reads the JSON file that a Vault Agent renders (docs/applications.md), every second. */
public record AgentFile(Path path) implements Reader {
    @Override
    public Credentials read() throws IOException {
        try {
            JsonObject data = JsonParser.parseString(Files.readString(path)).getAsJsonObject();
            data.addProperty("ttl", 0); // that of the file is of when it was written
            return new Credentials(data);
        } catch (JsonParseException | IllegalStateException e) {
            throw new IOException("read " + path + ": it is no JSON object"); // what Gson says quotes it
        }
    }
}
