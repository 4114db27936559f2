/* SPDX-License-Identifier: Apache-2.0 */
/* packet: the fixed shapes a peer's packets must have.  Pure. */
#include <string.h>

#include "keeper/keeper_priv.h"

enum packet_first packet_first(const void *data, size_t len, size_t full)
{
    struct proto_head h;

    if (len >= 1 && *(const char *)data == '{')
        return PACKET_CONTROL;
    if (len < sizeof(h))
        return PACKET_GARBAGE;
    memcpy(&h, data, sizeof(h));
    if (h.magic != PROTO_MAGIC || h.kind != PROTO_HELLO)
        return PACKET_GARBAGE;
    if (h.version != PROTO_VERSION)
        return PACKET_OTHER_VERSION;
    return full == sizeof(struct proto_hello) ? PACKET_HELLO : PACKET_GARBAGE;
}

int packet_attach(const struct proto_attach *a, size_t full)
{
    if (full != sizeof(*a) || a->head.magic != PROTO_MAGIC || a->head.version != PROTO_VERSION ||
        a->head.kind != PROTO_ATTACH)
        return -EPROTO;
    return memchr(a->group, '\0', sizeof(a->group)) ? 0 : -EPROTO;
}

void packet_head(struct proto_head *h, enum proto_kind kind)
{
    *h = (struct proto_head){
        .magic = PROTO_MAGIC,
        .version = PROTO_VERSION,
        .kind = (uint16_t)kind,
    };
}
