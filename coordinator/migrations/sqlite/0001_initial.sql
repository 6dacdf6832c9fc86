-- The same tables as migrations/postgres/0001_initial.sql. Times are epoch milliseconds, ids and hashes are text.

CREATE TABLE meta (
    key TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

-- Secrets that must be shared by several coordinators, sealed by the key file outside the database.
CREATE TABLE sealed_secrets (
    name TEXT NOT NULL PRIMARY KEY,
    sealed TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE nodes (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    name_canonical TEXT NOT NULL,
    state TEXT NOT NULL,                 -- living, revoked, superseded, deleted
    owner TEXT,
    enrolled_at BIGINT NOT NULL,
    ended_at BIGINT,
    superseded_by TEXT,
    quarantined_at BIGINT,
    quarantine_reason TEXT,
    machine_id_sha256 TEXT,
    agent_version TEXT,
    boot_id TEXT,
    inventory_sha256 TEXT,
    last_seen BIGINT,
    absent_since BIGINT,
    absent_cause TEXT
);
CREATE UNIQUE INDEX nodes_living_name ON nodes (name_canonical) WHERE state = 'living';
CREATE INDEX nodes_machine_id ON nodes (machine_id_sha256);

CREATE TABLE node_labels (
    node_id TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (node_id, key)
);

CREATE TABLE node_groups (
    node_id TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (node_id, name)
);

CREATE TABLE certificates (
    serial TEXT NOT NULL PRIMARY KEY,
    node_id TEXT NOT NULL,
    generation BIGINT NOT NULL,
    public_key_sha256 TEXT NOT NULL,
    certificate_pem TEXT NOT NULL,
    not_before BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    issued_at BIGINT NOT NULL,
    first_used_at BIGINT,
    state TEXT NOT NULL,                 -- issued, active, superseded, revoked
    ended_at BIGINT
);
CREATE UNIQUE INDEX certificates_generation ON certificates (node_id, generation);
CREATE UNIQUE INDEX certificates_public_key ON certificates (public_key_sha256);

CREATE TABLE tokens (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    storage_hash TEXT,                   -- keyed hash; NULL once redeemed, revoked or expired
    purpose TEXT NOT NULL,
    node_name TEXT,
    source_cidr TEXT,
    public_key_sha256 TEXT,
    replace_node BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    failures BIGINT NOT NULL,
    state TEXT NOT NULL,                 -- outstanding, redeemed, revoked, expired
    ended_at BIGINT,
    redeemed_node TEXT,
    certificate_serial TEXT
);
CREATE UNIQUE INDEX tokens_storage_hash ON tokens (storage_hash);
CREATE INDEX tokens_state ON tokens (state, expires_at);

CREATE TABLE enrolment_requests (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    node_name TEXT NOT NULL,
    csr_pem TEXT NOT NULL,
    public_key_sha256 TEXT NOT NULL,
    source TEXT NOT NULL,
    requested_at BIGINT NOT NULL,
    inventory TEXT NOT NULL,
    state TEXT NOT NULL,                 -- pending, approved, rejected
    decided_by TEXT,
    decided_at BIGINT,
    node_id TEXT
);
CREATE UNIQUE INDEX enrolment_requests_key ON enrolment_requests (public_key_sha256);

CREATE TABLE salt_master_keys (
    id BIGINT NOT NULL PRIMARY KEY,      -- always 1
    pem TEXT NOT NULL,
    imported_at BIGINT NOT NULL,
    imported_by TEXT NOT NULL
);

CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    username TEXT NOT NULL,
    username_canonical TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    password_generated BOOLEAN NOT NULL,
    enabled BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    last_login_at BIGINT
);

CREATE TABLE user_roles (
    user_id TEXT NOT NULL,
    role TEXT NOT NULL,
    PRIMARY KEY (user_id, role)
);

CREATE TABLE user_groups (
    user_id TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (user_id, name)
);

CREATE TABLE roles (
    name TEXT NOT NULL PRIMARY KEY,
    template BOOLEAN NOT NULL
);

CREATE TABLE role_permissions (
    role TEXT NOT NULL,
    permission TEXT NOT NULL,
    PRIMARY KEY (role, permission)
);

CREATE TABLE sessions (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL,
    mode TEXT NOT NULL,                  -- bearer, cookie
    csrf_sha256 TEXT,
    source TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    refreshed_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    ended_at BIGINT,
    end_cause TEXT
);
CREATE INDEX sessions_user ON sessions (user_id);

CREATE TABLE refresh_tokens (
    sha256 TEXT NOT NULL PRIMARY KEY,
    session_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT
);
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);

CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    node_id TEXT NOT NULL,
    spool_id TEXT,                       -- NULL on events of the coordinator
    sequence BIGINT,
    kind BIGINT NOT NULL,
    kind_name TEXT NOT NULL,
    severity BIGINT NOT NULL,            -- 0 info, 1 warning, 2 critical
    occurred_at BIGINT NOT NULL,
    stored_at BIGINT NOT NULL,
    boot_id TEXT,
    subject TEXT NOT NULL,
    message TEXT NOT NULL,
    attributes TEXT NOT NULL
);
CREATE UNIQUE INDEX events_origin ON events (node_id, spool_id, sequence);
CREATE INDEX events_time ON events (occurred_at);
CREATE INDEX events_node ON events (node_id, id);

-- One row for each acknowledged record of a spool, whatever its sort: what makes a duplicate a duplicate.
CREATE TABLE spool_records (
    node_id TEXT NOT NULL,
    spool_id TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    sort TEXT NOT NULL,                  -- event, inventory_section, inventory_complete, gap
    stored_at BIGINT NOT NULL,
    PRIMARY KEY (node_id, spool_id, sequence)
);

CREATE TABLE spool_positions (
    node_id TEXT NOT NULL,
    spool_id TEXT NOT NULL,
    acknowledged BIGINT NOT NULL,
    PRIMARY KEY (node_id, spool_id)
);

CREATE TABLE inventory_sections (
    node_id TEXT NOT NULL,
    tag BIGINT NOT NULL,
    encoded TEXT NOT NULL,               -- base64 of the bytes as received
    content TEXT NOT NULL,               -- JSON; null where this build does not know the tag
    received_at BIGINT NOT NULL,
    PRIMARY KEY (node_id, tag)
);

CREATE TABLE inventory_changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    node_id TEXT NOT NULL,
    at BIGINT NOT NULL,
    section TEXT NOT NULL,
    path TEXT NOT NULL,
    from_value TEXT NOT NULL,
    to_value TEXT NOT NULL
);
CREATE INDEX inventory_changes_node ON inventory_changes (node_id, id);

-- Append-only and hash-chained: each hash covers the record and the former hash.
CREATE TABLE audit (
    sequence BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    source TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    decision TEXT NOT NULL,
    detail TEXT NOT NULL,
    request_id TEXT NOT NULL,
    previous_hash TEXT NOT NULL,
    hash TEXT NOT NULL
);
CREATE INDEX audit_at ON audit (at);
