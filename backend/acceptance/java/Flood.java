import com.google.gson.JsonObject;
import java.io.IOException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import smvm.ApiKeys;
import smvm.Credentials;
import smvm.Source;

/**
 * Offers many wrong API keys at once, of which few may wait for a read that hangs, and then the right
 * one; and a new key many times at once, which all wait for the read that finds it.
 */
final class Flood {
    private static final int OFFERED = 64;
    private static final int MAY_WAIT = 8;
    private static final int SOON = 2; // in seconds; a wrong key that waits does so for 3

    private Flood() {}

    public static void main(String[] arguments) throws Exception {
        wrongKeys();
        newKey();
    }

    private static void wrongKeys() throws Exception {
        AtomicBoolean opened = new AtomicBoolean();
        try (Source source = Source.open(() -> opened.getAndSet(true) ? hang() : credentials("the key"))) {
            CountDownLatch refused = new CountDownLatch(OFFERED - MAY_WAIT);
            for (int i = 0; i < OFFERED; i++) {
                Thread client = new Thread(() -> {
                    check(!ApiKeys.accepts(source, "api", "a wrong key"));
                    refused.countDown();
                });
                client.setDaemon(true);
                client.start();
            }
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(SOON);
            check(ApiKeys.accepts(source, "api", "the key"));
            check(refused.await(deadline - System.nanoTime(), TimeUnit.NANOSECONDS));
        }
    }

    private static void newKey() throws Exception {
        AtomicBoolean opened = new AtomicBoolean();
        try (Source source = Source.open(() -> credentials(opened.getAndSet(true) ? slowly("new") : "old"))) {
            Thread.sleep(600); // until the next read can begin at once
            CountDownLatch accepted = new CountDownLatch(OFFERED);
            for (int i = 0; i < OFFERED; i++) {
                new Thread(() -> {
                    if (ApiKeys.accepts(source, "api", "new")) {
                        accepted.countDown();
                    }
                }).start();
            }
            check(accepted.await(SOON, TimeUnit.SECONDS));
        }
    }

    private static String slowly(String key) {
        try {
            Thread.sleep(100);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        return key;
    }

    private static Credentials hang() throws IOException {
        try {
            new CountDownLatch(1).await();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        throw new IOException("the test has ended");
    }

    private static Credentials credentials(String key) throws IOException {
        JsonObject data = new JsonObject();
        data.addProperty("version", 1);
        data.addProperty("ttl", 3600);
        data.addProperty("api_key", key);
        return new Credentials(data);
    }

    private static void check(boolean good) {
        if (!good) {
            throw new AssertionError();
        }
    }
}
