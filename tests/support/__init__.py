"""What tests share: a PostgreSQL server, fresh databases, an AWS to talk to."""
