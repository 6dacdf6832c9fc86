-- Lists of events of one kind, or of some severity, among millions of rows (the same as migrations/sqlite/).
CREATE INDEX events_kind ON events (kind_name, id);
CREATE INDEX events_severity ON events (severity, id);
