-- A conversation that nobody joined gives its group id to one that comes here from another home.
comment on column convo.is_foreign is 'Another server orders it, or it gave its group id to a conversation that came here.';
