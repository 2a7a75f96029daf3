package smvm;

import java.io.IOException;
import java.sql.Connection;
import java.sql.SQLException;
import java.time.Duration;
import java.util.Set;
import org.postgresql.ds.PGSimpleDataSource;

/**
 * Makes connections to PostgreSQL with the current login of a secret: user, password, hosts
 * and TLS, all of one version. If the server refuses the login, it reads the credentials
 * again and tries once more. It keeps no connections: give it to a pool. What the credentials
 * do not decide is set as in PGSimpleDataSource, such as setApplicationName.
 *
 * <p>HikariCP asks a DataSource for each new connection, in all of its versions. Its own
 * HikariCredentialsProvider, which came with 7.0.0, hands out user and password only.
 * setUsername and setPassword of HikariConfigMXBean leave a moment in which a connection gets
 * the one of now and the other of before.
 *
 * <p>The driver sends a password to whatever server asks for it in clear, so use verify-full.
 */
public final class RotatingDataSource extends PGSimpleDataSource {
    private static final long serialVersionUID = 1;
    /** PostgreSQL refuses the login. */
    private static final Set<String> REFUSED = Set.of("28P01", "28000");
    private static final int MAX_REFUSALS = 10;
    private static final Duration REFRESH = Duration.ofSeconds(3);

    private final transient Source source;
    private final String secret;

    /** Takes the name of a secret of type database. */
    public RotatingDataSource(Source source, String secret) {
        this.source = source;
        this.secret = secret;
        setConnectTimeout(5);
        setTcpKeepAlive(true);
    }

    @Override
    public Connection getConnection() throws SQLException {
        for (int refusals = 1; ; refusals++) {
            try {
                return at(source.current()).getConnection();
            } catch (SQLException e) {
                if (e.getSQLState() == null || !REFUSED.contains(e.getSQLState()) || refusals == MAX_REFUSALS) {
                    throw e;
                }
                source.refresh(REFRESH);
            }
        }
    }

    /** Has the action run when another login has come into use. */
    void onChange(Runnable action) {
        source.onChange((before, now) -> {
            if (!now.sameAs(before, secret)) {
                action.run();
            }
        });
    }

    private PGSimpleDataSource at(Credentials credentials) throws SQLException {
        String user = credentials.value(secret, "username");
        String host = credentials.value(secret, "host");
        String mode = credentials.value(secret, "sslmode");
        if (user.isEmpty() || host.isEmpty() || mode.isEmpty()) { // the driver would guess
            throw new SQLException("connect to PostgreSQL: the credentials have no " + secret + "_username, _host or _sslmode");
        }
        PGSimpleDataSource at = new PGSimpleDataSource();
        try {
            at.initializeFrom(this);
        } catch (IOException | ClassNotFoundException e) {
            throw new SQLException("connect to PostgreSQL: copy the settings", e);
        }
        at.setUser(user);
        at.setPassword(credentials.value(secret, "password"));
        String[] hosts = host.split(",");
        String[] given = credentials.value(secret, "port").split(",");
        int[] ports = new int[hosts.length];
        for (int i = 0; i < hosts.length; i++) {
            ports[i] = Integer.parseInt(given[Math.min(i, given.length - 1)]);
        }
        at.setServerNames(hosts);
        at.setPortNumbers(ports);
        if (hosts.length > 1) {
            at.setTargetServerType("primary");
        }
        at.setDatabaseName(credentials.value(secret, "database"));
        trust(at, mode, credentials.value(secret, "ssl_root_certificate"));
        return at;
    }

    /** TLS as sslmode says; without authorities they are those of the JVM. */
    private static void trust(PGSimpleDataSource at, String mode, String authorities) {
        at.setSslMode(mode);
        if (!authorities.isEmpty()) {
            at.setSslfactory(PemFactory.class.getName());
            at.setSslFactoryArg(authorities);
        } else if (mode.startsWith("verify-")) {
            at.setSslfactory("org.postgresql.ssl.DefaultJavaSSLFactory");
        }
    }
}
