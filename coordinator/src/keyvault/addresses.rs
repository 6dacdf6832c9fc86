//! Where nodes and people reach the coordinator.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::config::Config;

/// Names in the server's certificate, and the addresses that nodes are told.
#[derive(Debug, Clone, Default)]
pub struct PublicAddresses {
    /// DNS names and IP addresses in the server's certificate, next to `coordinator.<trust domain>`.
    pub names: Vec<String>,
    /// HTTPS, `host:port` each.
    pub https: Vec<String>,
    /// The QUIC link, `host:port` each.
    pub link: Vec<String>,
}

impl PublicAddresses {
    /// From the configuration and the ports that are listened on; without any public name, this host's name.
    pub fn of(config: &Config, host_name: &str, https_port: u16, link_port: u16) -> Self {
        let public = &config.https.public_names;
        let reached_by = if public.is_empty() { vec![host_name.to_owned()] } else { public.clone() };
        let advertised = |configured: &[String], port: u16| -> Vec<String> {
            if configured.is_empty() {
                reached_by.iter().map(|name| with_port(name, port)).collect()
            } else {
                configured.to_vec()
            }
        };
        let mut names = reached_by.clone();
        names.extend(config.https.advertise.iter().filter_map(|address| {
            let authority: http::uri::Authority = address.parse().ok()?;
            Some(authority.host().trim_matches(['[', ']']).to_owned())
        }));
        names.push(host_name.to_owned());
        names.push("localhost".to_owned());
        names.extend([Ipv4Addr::LOCALHOST.to_string(), Ipv6Addr::LOCALHOST.to_string()]);
        // Names that no certificate can carry, such as `node_1`, are no reason not to start.
        names.retain(|name| rustls_pki_types::ServerName::try_from(name.as_str()).is_ok());
        Self {
            names,
            https: advertised(&config.https.advertise, https_port),
            link: advertised(&config.link.advertise, link_port),
        }
    }
}

fn with_port(name: &str, port: u16) -> String {
    let bare_v6 = name.contains(':') && !name.starts_with('[');
    if bare_v6 { format!("[{name}]:{port}") } else { format!("{name}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_names_get_the_listening_ports() {
        let mut config = Config::default();
        config.https.public_names = vec!["aim.example.org".to_owned(), "fd00::1".to_owned()];
        config.link.advertise = vec!["10.0.0.1:1234".to_owned()];
        let addresses = PublicAddresses::of(&config, "head 1", 8443, 7443);
        assert_eq!(addresses.https, ["aim.example.org:8443", "[fd00::1]:8443"]);
        assert_eq!(addresses.link, ["10.0.0.1:1234"]);
        assert_eq!(addresses.names, ["aim.example.org", "fd00::1", "localhost", "127.0.0.1", "::1"]);
    }

    #[test]
    fn without_public_names_the_host_is_reached_by_its_own() {
        let addresses = PublicAddresses::of(&Config::default(), "head1", 8443, 7443);
        assert_eq!(
            (addresses.https, addresses.link),
            (vec!["head1:8443".to_owned()], vec!["head1:7443".to_owned()])
        );
    }
}
