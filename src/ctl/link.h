/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_CTL_LINK_H
#define PAGERD_CTL_LINK_H
/*
 * link: a control connection to a daemon, and which socket that is.
 */
#include <jansson.h>
#include <sys/un.h>

#include "ctl/ctl.h"

#define LINK_PATH_MAX sizeof(((struct sockaddr_un *)0)->sun_path)

/* Where to look, in this order. */
struct link_places {
    char path[2][LINK_PATH_MAX]; /* absolute */
    unsigned nr;
    bool chosen; /* the user named it: no other will do */
};

/*
 * `option` (--socket) or else `environment` (PAGERD_SOCKET); else the user's
 * own daemon, then the system's.  Pure but for getcwd().  -EINVAL.
 */
MUST_CHECK int link_places(const char *option, const char *environment, const char *runtime_dir,
                           bool is_root, struct link_places *ret, struct complaint *why);

struct link {
    int fd;
    char path[LINK_PATH_MAX];
};

/*
 * Connects to the first place that answers.  -ENOENT: nobody at any of them;
 * -EPERM: the socket is another user's, and neither root's.
 */
MUST_CHECK int link_open(const struct link_places *places, struct link *ret, struct complaint *why);
/* The same, with places from `option` and the environment. */
MUST_CHECK int link_open_default(const char *option, struct link *ret, struct complaint *why);
void link_close(struct link *l);

/*
 * One request and its answer, an object with "ok":true.  Steals `request`.
 * -EPROTO: no proper answer; -EREMOTEIO: refused, *why is the daemon's own sentence.
 */
MUST_CHECK int link_ask(struct link *l, json_t *request, json_t **ret_reply,
                        struct complaint *why);

#endif
