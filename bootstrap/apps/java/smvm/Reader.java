package smvm;

import java.io.IOException;

/** Whatever knows the credentials: a {@link Vault}, an {@link AgentFile}, or a class of your own. */
@FunctionalInterface
public interface Reader {
    /** Returns the credentials of now. The text of what it throws is logged, so it must hold no secret. */
    Credentials read() throws IOException;
}
