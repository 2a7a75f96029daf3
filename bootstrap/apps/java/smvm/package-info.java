/**
 * What a Java service needs to run on rotating credentials without a restart and without
 * a failed request. It needs Java 17, the PostgreSQL driver, HikariCP (2.7.9 or later) and
 * Gson. To use it, copy the directory smvm into your sources; example/Main.java is a
 * service to copy from.
 *
 * <pre>{@code
 * Source source = Source.open(new Vault(uri, "smvm/creds/orders", new AppRole(roleIdFile, secretIdFile)));
 * Source source = Source.open(new AgentFile(path)); // or: a JSON file that a Vault Agent renders
 * RotatingDataSource login = new RotatingDataSource(source, "db");
 * Database database = new Database(login, new HikariConfig()); // new logins, old ones drain
 * database.transaction(connection -> ...);                     // once more if its session ends
 * new JwtKeys(source, "jwt").verifying(kid);                   // current or previous, a java.security.Key
 * ApiKeys.accepts(source, "api", offered);                     // current or previous, in constant time
 * }</pre>
 *
 * <p>"db", "jwt" and "api" are the names of secrets of the role. The source reads again after
 * ttl, and at once when a login is refused or a key is unknown. While Vault does not answer, it
 * keeps the last values, also the previous ones, because only Vault says when their overlap ends.
 *
 * <p>The package does not renew its token (it logs in again before the token ends), sign or
 * verify JWTs (give the keys to your JWT library), sign with keys that stay in the engine, or
 * read the Agent's .env. It follows no redirects, and uses no proxy over plain http. It trusts
 * the authorities that the JVM trusts; for a Vault with a private CA, set
 * javax.net.ssl.trustStore.
 */
package smvm;
