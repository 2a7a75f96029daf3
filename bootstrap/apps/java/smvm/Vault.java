package smvm;

import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.io.InterruptedIOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;

/** Reads the credentials of a role from Vault's API, or through a Vault Proxy or Agent on this machine. */
public final class Vault implements Reader {
    private static final Duration TIMEOUT = Duration.ofSeconds(10);

    private final URI address;
    private final String path;
    private final AppRole login;
    private final HttpClient client;

    /** An answer of Vault other than success. Vault's errors hold no value of the engine. */
    public static final class StatusException extends IOException {
        private static final long serialVersionUID = 1;
        private final int status;

        StatusException(int status, String path, String errors) {
            super("Vault answers " + status + " to " + path + ": " + errors);
            this.status = status;
        }

        /** The HTTP status. */
        public int status() {
            return status;
        }
    }

    /**
     * Path is smvm/creds/&lt;role&gt;. Login gets the tokens; with a Proxy that adds its own it is
     * null.
     */
    public Vault(URI address, String path, AppRole login) {
        this.address = address;
        this.path = path;
        this.login = login;
        HttpClient.Builder builder = HttpClient.newBuilder().connectTimeout(TIMEOUT).version(HttpClient.Version.HTTP_1_1);
        if ("http".equals(address.getScheme())) {
            builder.proxy(HttpClient.Builder.NO_PROXY); // it would read tokens and values
        }
        client = builder.build(); // which follows no redirects
    }

    @Override
    public Credentials read() throws IOException {
        return new Credentials(ask("GET", path, null).getAsJsonObject("data"));
    }

    /** Sends a request with a token, and returns the answer. A token that is refused is replaced, once. */
    public JsonObject ask(String method, String path, JsonObject body) throws IOException {
        if (login == null) {
            return call(method, path, body, null);
        }
        try {
            return call(method, path, body, login.token(this));
        } catch (StatusException e) {
            if (e.status() != 403) {
                throw e;
            }
        }
        login.refused();
        return call(method, path, body, login.token(this));
    }

    JsonObject call(String method, String path, JsonObject body, String token) throws IOException {
        HttpRequest.BodyPublisher content =
            body == null ? HttpRequest.BodyPublishers.noBody() : HttpRequest.BodyPublishers.ofString(body.toString());
        HttpRequest.Builder request = HttpRequest.newBuilder(address.resolve("/v1/" + path))
            .timeout(TIMEOUT).method(method, content).header("X-Vault-Request", "true");
        if (token != null) {
            request.header("X-Vault-Token", token);
        }
        HttpResponse<String> response;
        try {
            response = client.send(request.build(), HttpResponse.BodyHandlers.ofString());
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new InterruptedIOException("ask Vault: interrupted");
        }
        JsonObject answer;
        try {
            answer = JsonParser.parseString(response.body()).getAsJsonObject();
        } catch (JsonParseException | IllegalStateException e) { // what Gson says quotes the answer
            throw new IOException("Vault answers " + response.statusCode() + " to " + path + ": no JSON object");
        }
        if (response.statusCode() != 200) {
            throw new StatusException(response.statusCode(), path, String.valueOf(answer.get("errors")));
        }
        return answer;
    }
}
