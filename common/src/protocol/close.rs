//! Why a connection was closed: QUIC application error codes, without any text.

/// The application error code of a QUIC close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum CloseCode {
    /// A clean end; a Goodbye said why.
    Done = 0,
    /// The identity is revoked, deleted or unknown: reconnecting is useless until an operator acts.
    Refused = 1,
    /// The peer broke the protocol.
    ProtocolViolation = 2,
    /// No common protocol version.
    VersionMismatch = 3,
    /// Another session of the same identity took over.
    Superseded = 4,
    /// The same certificate is used by two sessions, or from two boots: clone alarm.
    CloneSuspected = 5,
    /// The certificate ran out during the session: renew and come back.
    CertificateExpired = 6,
    /// A rate or size limit was broken.
    LimitExceeded = 7,
    /// The coordinator is stopping or overloaded: come back with backoff.
    Unavailable = 8,
    /// Hello did not come in time.
    HelloTimeout = 9,
}

impl CloseCode {
    /// Every code.
    pub const ALL: &'static [Self] = &[
        Self::Done,
        Self::Refused,
        Self::ProtocolViolation,
        Self::VersionMismatch,
        Self::Superseded,
        Self::CloneSuspected,
        Self::CertificateExpired,
        Self::LimitExceeded,
        Self::Unavailable,
        Self::HelloTimeout,
    ];

    /// The number on the wire.
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// Its name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::ProtocolViolation => "protocol_violation",
            Self::VersionMismatch => "version_mismatch",
            Self::Superseded => "superseded",
            Self::CloneSuspected => "clone_suspected",
            Self::CertificateExpired => "certificate_expired",
            Self::LimitExceeded => "limit_exceeded",
            Self::Unavailable => "unavailable",
            Self::HelloTimeout => "hello_timeout",
        }
    }

    /// The code with this number, if this build knows it.
    pub fn from_code(code: u64) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| u64::from(known.code()) == code)
    }
}
