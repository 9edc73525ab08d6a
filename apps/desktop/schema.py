"""The tables of the history, format 1. Text only."""

FORMAT = 1
APPLICATION_ID = 0x6F6E6476  # "ondv", so that another program's file is told apart

TABLES = """
CREATE TABLE conversations (
  id TEXT PRIMARY KEY, title TEXT NOT NULL, created TEXT NOT NULL, updated TEXT NOT NULL,
  model TEXT NOT NULL, system TEXT NOT NULL, preset TEXT NOT NULL
);
CREATE INDEX conversations_by_time ON conversations (updated);
CREATE TABLE messages (
  number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
  conversation TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
  position INTEGER NOT NULL, role TEXT NOT NULL, content TEXT NOT NULL, created TEXT NOT NULL,
  state TEXT NOT NULL, model TEXT NOT NULL, details TEXT, passages TEXT NOT NULL
);
CREATE INDEX messages_in_order ON messages (conversation, position);
CREATE TABLE documents (
  id TEXT PRIMARY KEY,
  conversation TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
  name TEXT NOT NULL, pages INTEGER NOT NULL, bytes INTEGER NOT NULL,
  characters INTEGER NOT NULL, added TEXT NOT NULL
);
CREATE INDEX documents_of_conversation ON documents (conversation);
CREATE TABLE passages (
  document TEXT NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
  number INTEGER NOT NULL, page INTEGER NOT NULL, text TEXT NOT NULL,
  PRIMARY KEY (document, number)
);
CREATE TABLE notices (id TEXT PRIMARY KEY, kind TEXT NOT NULL, text TEXT NOT NULL);
CREATE VIRTUAL TABLE found USING fts5 (
  content, content = 'messages', content_rowid = 'number',
  tokenize = 'unicode61 remove_diacritics 2'
);
CREATE TRIGGER messages_added AFTER INSERT ON messages BEGIN
  INSERT INTO found (rowid, content) VALUES (new.number, new.content);
END;
CREATE TRIGGER messages_removed AFTER DELETE ON messages BEGIN
  INSERT INTO found (found, rowid, content) VALUES ('delete', old.number, old.content);
END;
CREATE TRIGGER messages_changed AFTER UPDATE OF content ON messages BEGIN
  INSERT INTO found (found, rowid, content) VALUES ('delete', old.number, old.content);
  INSERT INTO found (rowid, content) VALUES (new.number, new.content);
END;
"""
