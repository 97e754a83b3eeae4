-- Commit something, however little: with synchronous standbys the commit returns when they have all before it, too.
select pg_logical_emit_message(true, 'restante', '')
