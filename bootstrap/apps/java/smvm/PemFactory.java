package smvm;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import org.postgresql.ssl.WrappedFactory;

/** Has the PostgreSQL driver trust the authorities in a text, which it would otherwise take as a file only. */
public final class PemFactory extends WrappedFactory {
    /** The driver calls this; pem are the certificates. */
    public PemFactory(String pem) throws GeneralSecurityException, IOException {
        KeyStore authorities = KeyStore.getInstance(KeyStore.getDefaultType());
        authorities.load(null, null);
        var text = new ByteArrayInputStream(pem.getBytes(StandardCharsets.UTF_8));
        for (Certificate each : CertificateFactory.getInstance("X.509").generateCertificates(text)) {
            authorities.setCertificateEntry("authority-" + authorities.size(), each);
        }
        var managers = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        managers.init(authorities);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, managers.getTrustManagers(), null);
        factory = context.getSocketFactory();
    }
}
