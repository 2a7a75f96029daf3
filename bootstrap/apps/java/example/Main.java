package example;

import com.google.gson.JsonObject;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import com.zaxxer.hikari.HikariConfig;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.Instant;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.Executors;
import smvm.AgentFile;
import smvm.ApiKeys;
import smvm.AppRole;
import smvm.Database;
import smvm.JwtKeys;
import smvm.RotatingDataSource;
import smvm.Source;
import smvm.Vault;

/**
 * An example service to copy from: it works in PostgreSQL and accepts JWTs and API keys. What it
 * does for rotations is marked by "rotation". It takes from the environment: PORT; VAULT_ADDR,
 * SMVM_ROLE_ID_FILE and SMVM_SECRET_ID_FILE, or SMVM_CREDS_FILE, which a Vault Agent renders;
 * SMVM_PATH, the path of the role, if it is not smvm/creds/default.
 */
public final class Main {
    private static final String SCHEMA = """
        SELECT pg_advisory_xact_lock(7381920);
        CREATE TABLE IF NOT EXISTS smvm_java_requests (
            request uuid PRIMARY KEY,
            id bigint GENERATED ALWAYS AS IDENTITY,
            at timestamptz NOT NULL DEFAULT now(),
            login text NOT NULL DEFAULT session_user
        )""";
    private static final String READ = "SELECT coalesce(max(id), 0), session_user FROM smvm_java_requests";
    // Done twice, it writes one row: so it may be repeated even if the answer to COMMIT was lost.
    private static final String WRITE = """
        INSERT INTO smvm_java_requests (request) VALUES (?::uuid)
        ON CONFLICT (request) DO UPDATE SET request = excluded.request RETURNING id, login""";
    private static final int TOKEN_LIFE = 15 * 60; // seconds

    private final Source source;
    private final Database database;
    private final Tokens tokens;

    /** What a path does. */
    private interface Route {
        JsonObject answer(HttpExchange exchange) throws SQLException;
    }

    /** The request has no key or token that is valid. */
    private static final class Refusal extends RuntimeException {
        private static final long serialVersionUID = 1;
    }

    private Main(Source source, Database database) {
        this.source = source;
        this.database = database;
        this.tokens = new Tokens(new JwtKeys(source, "jwt")); // rotation
    }

    /** Serves until SIGTERM. */
    public static void main(String[] arguments) throws IOException, SQLException {
        System.setProperty("sun.net.httpserver.nodelay", "true");
        Map<String, String> env = System.getenv();
        Source source = Source.open(reader(env)); // rotation
        RotatingDataSource login = new RotatingDataSource(source, "db"); // rotation
        login.setApplicationName("smvm-api");
        Database database = new Database(login, new HikariConfig()); // rotation
        database.idempotent(connection -> connection.createStatement().execute(SCHEMA));
        Main service = new Main(source, database);
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(env.getOrDefault("PORT", "8000"))), 0);
        server.setExecutor(Executors.newFixedThreadPool(16));
        server.createContext("/", service::handle);
        server.start();
    }

    private static smvm.Reader reader(Map<String, String> env) {
        if (env.containsKey("SMVM_CREDS_FILE")) {
            return new AgentFile(Path.of(env.get("SMVM_CREDS_FILE")));
        }
        AppRole login = env.containsKey("SMVM_ROLE_ID_FILE")
            ? new AppRole(Path.of(env.get("SMVM_ROLE_ID_FILE")), Path.of(env.get("SMVM_SECRET_ID_FILE"))) : null;
        return new Vault(URI.create(env.get("VAULT_ADDR")), env.getOrDefault("SMVM_PATH", "smvm/creds/default"), login);
    }

    private Route route(String request) {
        return switch (request) {
            case "GET /health" -> exchange -> health();
            case "POST /api/token" -> exchange -> {
                byKey(exchange);
                JsonObject answer = new JsonObject();
                answer.addProperty("token", tokens.sign("api-key", Instant.now().plusSeconds(TOKEN_LIFE)));
                answer.addProperty("expires_in", TOKEN_LIFE);
                return answer;
            };
            case "GET /api/test" -> exchange -> {
                byTokenOrKey(exchange);
                return database.idempotent(connection -> query(connection, READ)); // rotation
            };
            case "POST /api/test" -> exchange -> {
                byTokenOrKey(exchange);
                String id = UUID.randomUUID().toString();
                return database.idempotent(connection -> query(connection, WRITE, id)); // rotation
            };
            default -> exchange -> null;
        };
    }

    private JsonObject health() throws SQLException {
        database.idempotent(connection -> connection.createStatement().execute("SELECT 1")); // rotation
        JsonObject answer = new JsonObject();
        answer.addProperty("status", "ok");
        answer.addProperty("version", source.current().version());
        answer.addProperty("database_user", source.current().value("db", "username"));
        answer.addProperty("failed_reads", source.failing());
        return answer;
    }

    private void byKey(HttpExchange exchange) {
        if (!ApiKeys.accepts(source, "api", exchange.getRequestHeaders().getFirst("X-API-Key"))) { // rotation
            throw new Refusal();
        }
    }

    private void byTokenOrKey(HttpExchange exchange) {
        String token = exchange.getRequestHeaders().getFirst("Authorization");
        if (token == null) {
            byKey(exchange);
        } else if (!tokens.accepts(token.replaceFirst("^Bearer ", ""))) {
            throw new Refusal();
        }
    }

    private static JsonObject query(Connection connection, String sql, String... values) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int i = 0; i < values.length; i++) {
                statement.setString(i + 1, values[i]);
            }
            try (ResultSet rows = statement.executeQuery()) {
                rows.next();
                JsonObject answer = new JsonObject();
                answer.addProperty("id", rows.getLong(1));
                answer.addProperty("login", rows.getString(2));
                return answer;
            }
        }
    }

    private void handle(HttpExchange exchange) throws IOException {
        int status = 200;
        JsonObject answer = null;
        try {
            answer = route(exchange.getRequestMethod() + " " + exchange.getRequestURI().getPath()).answer(exchange);
            if (answer == null) {
                status = 404;
            }
        } catch (Refusal e) {
            status = 401;
        } catch (SQLException e) {
            System.getLogger("smvm.api").log(System.Logger.Level.ERROR, "query database: {0} {1}", e.getClass().getName(), e.getSQLState());
            status = 503;
        }
        byte[] body = String.valueOf(answer).getBytes(StandardCharsets.UTF_8);
        exchange.getResponseHeaders().set("Content-Type", "application/json");
        exchange.sendResponseHeaders(status, body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }
}
