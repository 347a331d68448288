//! What a person can do about a certificate that is not believed.

use rustls::CertificateError;

use super::unvouched::Another;

const NOT_BELIEVED: &str = "give its authority with --ca FILE, or for a test --insecure";

/// What is wrong with a server's certificate, and what to do.
pub fn advice(why: &CertificateError) -> String {
    use CertificateError as Why;
    match why {
        // An authority of the same name that has another key is not its authority.
        Why::UnknownIssuer | Why::BadSignature | Why::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            format!("nobody who is believed vouches for its certificate; {NOT_BELIEVED}")
        }
        Why::Expired | Why::ExpiredContext { .. } => {
            "its certificate has expired; the server needs a new one, unless this machine's clock is wrong".to_owned()
        }
        Why::NotValidYet | Why::NotValidYetContext { .. } => {
            "its certificate is not valid yet; is the clock of one of the two machines wrong?".to_owned()
        }
        Why::NotValidForName | Why::NotValidForNameContext { .. } => {
            format!("{why}; connect to a name that it is valid for, or for a test give --insecure")
        }
        // The kind has no name outside of the library that checks.
        Why::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "its certificate is one of an authority (CA:TRUE), which is no server's, even where --ca believes it; have it made \
             with -addext basicConstraints=critical,CA:FALSE, or for a test give --insecure"
                .to_owned()
        }
        Why::Other(other) if other.0.is::<Another>() => format!(
            "{other}; if the server was started anew since, it prints that of its certificate, and with --cert-dir it keeps it"
        ),
        _ => format!("invalid peer certificate: {why}; {NOT_BELIEVED}"),
    }
}
