//! Where a request carries its credential: the bearer header of a script, or the cookies of a browser.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Holds the access token; the prefix makes browsers refuse it from any other host or path (AUT-10).
const ACCESS_COOKIE: &str = "__Host-aim-session";
/// Holds the refresh token.
const REFRESH_COOKIE: &str = "__Host-aim-refresh";
/// Shows that the request was made by a page of ours (API-06).
pub const CSRF_HEADER: HeaderName = HeaderName::from_static("x-aim-csrf");

/// A longer header holds no token of ours, and is not even read (AUT-03).
const LONGEST: usize = 2 * 1024;

/// How the caller shows who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential<'a> {
    /// `Authorization: Bearer`.
    Bearer(&'a str),
    /// The cookie: sent by a browser whoever asked for it.
    Cookie(&'a str),
}

impl<'a> Credential<'a> {
    /// The one credential of a request. Two of a kind are none: it must be clear which one was judged.
    pub fn of(headers: &'a HeaderMap) -> Option<Self> {
        let mut authorizations = headers.get_all(header::AUTHORIZATION).iter();
        match (authorizations.next(), authorizations.next()) {
            (Some(value), None) if value.len() <= LONGEST => {
                let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
                scheme.eq_ignore_ascii_case("bearer").then_some(Self::Bearer(token.trim()))
            }
            (None, _) => cookie(headers, ACCESS_COOKIE).map(Self::Cookie),
            _ => None,
        }
    }
}

/// The refresh token of a browser.
pub fn refresh_cookie(headers: &HeaderMap) -> Option<&str> {
    cookie(headers, REFRESH_COOKIE)
}

/// The cookies of a session: access and refresh token, each with its life in seconds.
pub fn set_cookies(headers: &mut HeaderMap, access: (&str, i64), refresh: (&str, i64)) {
    for (name, (value, seconds)) in [(ACCESS_COOKIE, access), (REFRESH_COOKIE, refresh)] {
        let cookie = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age={seconds}");
        // A token of ours holds no character that a header refuses; if it did, there would be no cookie (INJ-10).
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            headers.append(header::SET_COOKIE, cookie);
        }
    }
}

/// Takes the cookies away.
pub fn clear_cookies(headers: &mut HeaderMap) {
    set_cookies(headers, ("", 0), ("", 0));
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(known, _)| *known == name)
        .map(|(_, value)| value);
    match (found.next(), found.next()) {
        (Some(value), None) if !value.is_empty() => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn aut_10_cookies_are_host_bound_secure_and_strict() {
        let mut set = HeaderMap::new();
        set_cookies(&mut set, ("a.b.c", 600), ("r", 3600));
        let cookies: Vec<_> = set.get_all(header::SET_COOKIE).iter().map(|c| c.to_str().unwrap()).collect();
        assert_eq!(cookies.len(), 2);
        for cookie in cookies {
            assert!(cookie.starts_with("__Host-"), "{cookie}");
            for part in ["; Path=/;", "; Secure;", "; HttpOnly;", "; SameSite=Strict;"] {
                assert!(cookie.contains(part), "{cookie} lacks {part}");
            }
            assert!(!cookie.contains("Domain"));
        }
    }

    #[test]
    fn inj_10_a_line_break_never_reaches_a_header() {
        let mut set = HeaderMap::new();
        set_cookies(&mut set, ("a\r\nSet-Cookie: evil=1", 600), ("b\n", 1));
        assert!(set.is_empty());
    }

    #[test]
    fn aut_10_one_credential_and_no_more() {
        let one = headers(&[("authorization", "bearer abc")]);
        assert_eq!(Credential::of(&one), Some(Credential::Bearer("abc")));
        let cookie = headers(&[("cookie", "x=1; __Host-aim-session=abc")]);
        assert_eq!(Credential::of(&cookie), Some(Credential::Cookie("abc")));
        assert_eq!(
            Credential::of(&headers(&[("authorization", "Bearer a"), ("authorization", "Bearer b")])),
            None
        );
        let doubled = headers(&[("cookie", "__Host-aim-session=a; __Host-aim-session=b")]);
        assert_eq!(Credential::of(&doubled), None);
        let both = headers(&[("authorization", "Basic abc"), ("cookie", "__Host-aim-session=abc")]);
        assert_eq!(Credential::of(&both), None);
    }
}
