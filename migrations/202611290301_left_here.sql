-- An account leaves a conversation whose home does not answer.

alter table seat add column left_here boolean not null default false;
comment on column seat.left_here is 'Its account left, and the home has not said so yet: held, and not shown to whoever listens either.';
