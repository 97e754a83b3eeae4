"""Several hosts: network namespaces with restante's processes, PostgreSQL with a standby, and PgBouncer."""
