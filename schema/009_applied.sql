-- Which messages of the stream were applied: what cairn salvage recognises a stream by
-- that went back, as one from a backup. See projector/applied.go.
create table applied_messages (
    slot        int primary key, -- few of what is long ago, all of what was just applied
    sequence    bigint not null,
    message_id  text not null
) with (fillfactor = 50); -- slots are used again and again, within their page
create sequence applied_messages_number;

---- create above / drop below ----

drop sequence applied_messages_number;
drop table applied_messages;
