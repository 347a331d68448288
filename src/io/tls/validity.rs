//! When a certificate is valid, and whether it is a CA certificate: the parts of X.509 (RFC 5280, section 4.1) that rustls does not show.

use time::format_description::well_known::Iso8601;
use time::{OffsetDateTime, PrimitiveDateTime};

// Tags of DER.
const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

/// The identifier of the extension `BasicConstraints`, 2.5.29.19.
const BASIC_CONSTRAINTS: [u8; 3] = [0x55, 0x1d, 19];

/// What is used of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Properties {
    pub(super) not_before: OffsetDateTime,
    /// The last second of the validity.
    pub(super) not_after: OffsetDateTime,
    pub(super) is_ca: bool,
    /// Whether it names itself as its issuer.
    pub(super) is_self_issued: bool,
}

/// The properties of a certificate in DER; `None` if it is none.
pub(super) fn properties(mut der: &[u8]) -> Option<Properties> {
    let mut tbs = element(&mut element(&mut der, SEQUENCE)?, SEQUENCE)?;
    element(&mut tbs, VERSION);
    let [_serial, _algorithm, issuer] = elements(&mut tbs, [INTEGER, SEQUENCE, SEQUENCE])?;
    let [mut validity, subject, _key] = elements(&mut tbs, [SEQUENCE; 3])?;
    let (not_before, not_after) = (time(&mut validity)?, time(&mut validity)?);
    // Unique identifiers, which no certificate has today, would precede the extensions.
    let is_ca = element(&mut tbs, EXTENSIONS).and_then(is_ca).unwrap_or(false);
    Some(Properties { not_before, not_after, is_ca, is_self_issued: issuer == subject })
}

/// Whether `BasicConstraints` is among the extensions and says so; `None` if it is absent.
fn is_ca(mut der: &[u8]) -> Option<bool> {
    let mut extensions = element(&mut der, SEQUENCE)?;
    while let Some(mut extension) = element(&mut extensions, SEQUENCE) {
        let id = element(&mut extension, OBJECT_IDENTIFIER)?;
        element(&mut extension, BOOLEAN);
        if id == BASIC_CONSTRAINTS {
            let mut constraints = element(&mut element(&mut extension, OCTET_STRING)?, SEQUENCE)?;
            return Some(element(&mut constraints, BOOLEAN) == Some(&[0xff]));
        }
    }
    None
}

/// Takes a time: `YYYYMMDDHHMMSSZ`, or with two digits a year from 1950 to 2049.
fn time(der: &mut &[u8]) -> Option<OffsetDateTime> {
    let text = match element(der, UTC_TIME) {
        Some(text @ [b'5'..=b'9', ..]) => [b"19", text].concat(),
        Some(text) => [b"20", text].concat(),
        None => element(der, GENERALIZED_TIME)?.to_vec(),
    };
    let (date, time) = str::from_utf8(&text).ok()?.split_at_checked(8)?;
    Some(PrimitiveDateTime::parse(&format!("{date}T{time}"), &Iso8601::DEFAULT).ok()?.assume_utc())
}

fn elements<'a, const N: usize>(der: &mut &'a [u8], tags: [u8; N]) -> Option<[&'a [u8]; N]> {
    let mut found = [&[][..]; N];
    for (content, tag) in found.iter_mut().zip(tags) {
        *content = element(der, tag)?;
    }
    Some(found)
}

/// Takes the next element if it has this `tag`, and returns its content.
fn element<'a>(der: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (&[found, length], mut rest) = der.split_first_chunk()?;
    let mut length = usize::from(length);
    // Longer contents have up to four bytes of length.
    if let len @ 0x81..=0x84 = length {
        let bytes = rest.split_off(..len - 0x80)?;
        length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    }
    let content = rest.split_off(..length)?;
    *der = Some(rest).filter(|_| found == tag)?;
    Some(content)
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn validity_and_ca_flag_are_as_issued_and_no_cut_certificate_is_read() {
        let unconstrained = IsCa::Ca(BasicConstraints::Unconstrained);
        for (year, text, kind, is_ca) in [
            (1950, "1950-03-04T00:00:00Z", IsCa::NoCa, false),
            (2049, "2049-03-04T00:00:00Z", IsCa::ExplicitNoCa, false),
            (2050, "2050-03-04T00:00:00Z", IsCa::Ca(BasicConstraints::Constrained(1)), true),
            (9998, "9998-03-04T00:00:00Z", unconstrained, true),
        ] {
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
            (params.not_before, params.not_after, params.is_ca) =
                (date_time_ymd(1949, 1, 2), date_time_ymd(year, 3, 4), kind);
            let certificate = params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate");
            let der = certificate.der();
            let [not_before, not_after] = ["1949-01-02T00:00:00Z", text]
                .map(|text| OffsetDateTime::parse(text, &Iso8601::DEFAULT).expect("a time"));
            let expected = Properties { not_before, not_after, is_ca, is_self_issued: true };
            assert_eq!(properties(der), Some(expected), "{text}");
            assert!((0..der.len()).all(|len| properties(&der[..len]).is_none()));
        }
    }
}
