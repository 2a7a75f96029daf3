package smvm;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import java.sql.SQLException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;

/**
 * A pool of HikariCP that moves to new logins by itself, and repeats a transaction whose
 * session ended. New connections use a new login as soon as it was read. Connections of the
 * one before are closed: idle ones at once, those in use when they come back. A framework that
 * wants a DataSource takes {@link #pool}.
 */
public final class Database implements AutoCloseable {
    /** The session has ended, or leads to a server that has become a standby. */
    private static final Pattern LOST = Pattern.compile("08...|57P0[1-5]|25006");

    /** How long after a change a connection may still come that was being made with the old login, in seconds. */
    private static final int MAKING = 5;

    private final HikariDataSource pool;

    /** What a transaction does. */
    @FunctionalInterface
    public interface Work<T> {
        /** Does it, on a connection that commits or rolls back afterwards. */
        T apply(Connection connection) throws SQLException;
    }

    /** The session ended after COMMIT was sent and before it was answered: the transaction may be committed or not. */
    public static final class CommitUnknownException extends SQLException {
        private static final long serialVersionUID = 1;

        CommitUnknownException(SQLException cause) {
            super("the session ended before COMMIT was answered: the transaction may be committed or not", cause.getSQLState(), cause);
        }
    }

    /** Makes a pool of connections of that login; config has the pool's own settings. */
    public Database(RotatingDataSource login, HikariConfig config) {
        config.setDataSource(login);
        pool = new HikariDataSource(config);
        login.onChange(() -> {
            evict();
            CompletableFuture.delayedExecutor(MAKING, TimeUnit.SECONDS).execute(this::evict);
        });
    }

    /** The pool as it is. */
    public HikariDataSource pool() {
        return pool;
    }

    /**
     * Runs work as one transaction, and returns what it returns after the COMMIT. If the session
     * ends meanwhile, work runs once more on another, from its beginning: so do nothing in it
     * but what a rollback undoes. It is not repeated if COMMIT was sent: then this throws
     * CommitUnknownException.
     */
    public <T> T transaction(Work<T> work) throws SQLException {
        return transaction(work, false);
    }

    /** As transaction, but repeats work even if COMMIT was sent: for reads, and for writes that may be done twice. */
    public <T> T idempotent(Work<T> work) throws SQLException {
        return transaction(work, true);
    }

    private <T> T transaction(Work<T> work, boolean idempotent) throws SQLException {
        for (boolean last = false; ; last = true) {
            boolean committing = false;
            Connection taken = pool.getConnection();
            try (Connection connection = taken) { // which rolls back what was not committed
                connection.setAutoCommit(false);
                T result = work.apply(connection);
                committing = true;
                connection.commit();
                return result;
            } catch (SQLException e) {
                if (e.getSQLState() == null || !LOST.matcher(e.getSQLState()).matches()) {
                    throw e;
                }
                if (committing && (last || !idempotent)) {
                    throw new CommitUnknownException(e);
                }
                if (last) {
                    throw e;
                }
                evict(); // the other sessions may be ending too
            }
        }
    }

    /** Has no connection handed out again that there is now. */
    private void evict() {
        pool.getHikariPoolMXBean().softEvictConnections();
    }

    @Override
    public void close() {
        pool.close();
    }
}
