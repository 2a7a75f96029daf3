package smvm;

import java.io.IOException;
import java.lang.System.Logger.Level;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.Semaphore;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.BiConsumer;
import java.util.function.Function;

/**
 * Holds the current credentials of a role and keeps them current, in one thread of its own.
 * It reads again when ttl has passed, and at once when it is asked to. While a read does not
 * succeed it keeps the last values. All methods may be called from all threads.
 */
public final class Source implements AutoCloseable {
    private static final System.Logger LOG = System.getLogger("smvm");
    private static final long MIN_INTERVAL = 500; // between two reads, in milliseconds
    private static final long MAX_BACKOFF = 15_000; // after reads that failed, in milliseconds
    private static final Duration PATIENCE = Duration.ofMinutes(1);
    // How long a request may be held up by a key that looks new, and how many requests at once, where
    // the next read can't begin yet or does not end. Beyond that, keys are judged by what was read
    // last: so a flood of wrong keys does not take all threads of a service. The example has 16.
    private static final Duration DOUBT = Duration.ofSeconds(3);
    private static final int MAX_DOUBTS = 8;

    private final Reader reader;
    private final ScheduledThreadPoolExecutor executor;
    private final List<BiConsumer<Credentials, Credentials>> watchers = new CopyOnWriteArrayList<>();
    private final Semaphore doubts = new Semaphore(MAX_DOUBTS);
    private volatile Credentials current;
    private volatile Credentials confirmed;
    private long due; // a read that begins before confirms nothing
    private volatile int failing;
    private CompletableFuture<Boolean> coming; // the read that has not begun; who asks until then waits for the same one
    private CompletableFuture<Boolean> latest = CompletableFuture.completedFuture(true); // the read that has begun last
    private Future<?> next;
    private long began = System.nanoTime() - TimeUnit.MILLISECONDS.toNanos(MIN_INTERVAL);

    private Source(Reader reader) {
        this.reader = reader;
        executor = new ScheduledThreadPoolExecutor(1, work -> {
            Thread thread = new Thread(work, "smvm-source");
            thread.setDaemon(true);
            return thread;
        }, new ThreadPoolExecutor.DiscardPolicy());
    }

    /** Reads the credentials, again and again until it works; after a minute it throws an IOException. */
    public static Source open(Reader reader) throws IOException {
        Source source = new Source(reader);
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        while (!source.refresh(PATIENCE)) {
            if (System.nanoTime() - deadline > 0 || Thread.currentThread().isInterrupted()) {
                source.close();
                throw new IOException("no credentials after " + PATIENCE.toSeconds() + " s; the log has the cause");
            }
        }
        return source;
    }

    /** The newest credentials that were read. */
    public Credentials current() {
        return current;
    }

    /**
     * The newest credentials that a later read, ttl or more after the first one, has found again.
     * Newer ones other instances may not have read yet, so JwtKeys does not sign with them.
     */
    public Credentials confirmed() {
        return confirmed;
    }

    /** How many reads in a row did not succeed. Report it, but go on: the last values still work. */
    public int failing() {
        return failing;
    }

    /**
     * Has the watcher called with the credentials of before and of now, in the thread that reads,
     * when other values have come into use. It must not block.
     */
    public void onChange(BiConsumer<Credentials, Credentials> watcher) {
        watchers.add(watcher);
    }

    /** Reads now, or half a second after the last read; whether that worked within the timeout. */
    public boolean refresh(Duration timeout) {
        return await(ask(), timeout.toMillis());
    }

    private static boolean await(CompletableFuture<Boolean> read, long millis) {
        try {
            return read.get(millis, TimeUnit.MILLISECONDS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            return false;
        } catch (ExecutionException | TimeoutException e) {
            return false;
        }
    }

    /**
     * Returns what find finds in the credentials; if that is nothing, it reads again and looks
     * once more. For what another instance may have seen first: an unknown kid or API key. It
     * blocks for half a second at most and, at most 8 threads at a time, for 3 seconds more.
     */
    public <T> Optional<T> settle(Function<Credentials, Optional<T>> find) {
        Optional<T> found = find.apply(current);
        if (found.isPresent()) {
            return found;
        }
        boolean read = readNow();
        found = find.apply(current);
        if (found.isEmpty() && !read && doubts.tryAcquire()) {
            try {
                refresh(DOUBT);
            } finally {
                doubts.release();
            }
            found = find.apply(current);
        }
        return found;
    }

    /**
     * Waits for the read that is under way or can begin now, unless reads fail, and no longer than
     * half a second after it has begun. Returns whether one that can begin now worked.
     */
    private boolean readNow() {
        CompletableFuture<Boolean> read;
        long left;
        boolean begins;
        synchronized (this) {
            long since = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - began);
            boolean ended = latest.isDone();
            begins = ended && since >= MIN_INTERVAL && failing == 0;
            read = begins ? ask() : latest;
            left = failing > 0 ? 0 : ended ? MIN_INTERVAL : MIN_INTERVAL - since;
        }
        return await(read, left) && begins;
    }

    /** Ends the reading. The last credentials stay usable. */
    @Override
    public void close() {
        executor.shutdownNow();
    }

    private synchronized CompletableFuture<Boolean> ask() {
        if (coming == null) {
            coming = new CompletableFuture<>();
            long since = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - began);
            executor.schedule(this::read, Math.max(0, MIN_INTERVAL - since), TimeUnit.MILLISECONDS);
        }
        return coming;
    }

    private void read() {
        CompletableFuture<Boolean> asked;
        synchronized (this) {
            asked = latest = coming;
            coming = null;
            began = System.nanoTime();
            if (next != null) {
                next.cancel(false);
            }
        }
        long pause;
        boolean worked = true;
        try {
            Credentials fresh = reader.read();
            failing = 0;
            pause = fresh.ttl().toMillis();
            use(fresh);
        } catch (IOException | RuntimeException e) {
            worked = false;
            failing++;
            pause = Math.min(MIN_INTERVAL << Math.min(failing, 8), MAX_BACKOFF);
            pause = ThreadLocalRandom.current().nextLong(pause / 2, pause + 1);
            LOG.log(Level.WARNING, "read credentials ({0} failures): {1}", failing, told(e));
        }
        synchronized (this) {
            next = executor.schedule(this::ask, pause, TimeUnit.MILLISECONDS);
        }
        asked.complete(worked);
    }

    private void use(Credentials fresh) {
        Credentials before = current;
        current = fresh;
        boolean changed = before == null || !fresh.sameAs(before);
        if (changed) {
            due = began + fresh.ttl().toNanos();
        }
        if (before == null || began - due >= 0) {
            confirmed = fresh;
        }
        if (before == null || !changed) {
            return;
        }
        LOG.log(Level.INFO, "new credentials: version {0}, before {1}", fresh.version(), before.version());
        for (BiConsumer<Credentials, Credentials> watcher : watchers) {
            try {
                watcher.accept(before, fresh);
            } catch (RuntimeException e) {
                LOG.log(Level.ERROR, "take over new credentials: {0}", told(e));
            }
        }
    }

    /** What may be logged of an exception: the text only of those that are known to hold no secret. */
    private static String told(Exception e) {
        return e instanceof IOException ? e.toString() : e.getClass().getName();
    }
}
