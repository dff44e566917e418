/* Calls by libsofia-sip-ua, the library inside FreeSWITCH's mod_unimrcp and UniMRCP, at a rate:
 *
 *     calls URL TARGET RATE SECONDS HOLD    RATE calls a second to TARGET, each held for HOLD milliseconds
 *
 * As every agent on that library it gives a request up at the first ICMP error that quotes it, with a 503 of its own. One line at
 * the end tells what became of all: calls, those that got a 2xx and those that did not, BYEs that got a 200 and those that did
 * not. What failed is told at once, with its Call-ID. The exit status is 0 unless it could not run. */

#include <stdio.h>
#include <stdlib.h>

typedef struct call call;
#define NUA_MAGIC_T void
#define NUA_HMAGIC_T call

#include <sofia-sip/nua.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/su_log.h>
#include <sofia-sip/su_time.h>

/* An INVITE without a final answer is given up after so many seconds. */
enum { PATIENCE = 40 };

enum state { CALLING, UP, ENDING, OVER };

struct call {
    enum state state;
    nua_handle_t *handle;
    su_timer_t *timer;
};

static char const offer[] =
    "v=0\r\no=caller 1700000000 1700000001 IN IP4 127.0.0.5\r\ns=-\r\nc=IN IP4 127.0.0.5\r\nt=0 0\r\n"
    "m=application 9 TCP/MRCPv2 1\r\na=setup:active\r\na=connection:new\r\na=resource:speechsynth\r\na=cmid:1\r\n"
    "m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=recvonly\r\na=mid:1\r\n";

static su_root_t *root;
static nua_t *nua;
static char const *target;
static double rate, seconds;
static int hold, begun, answered, failed, ended, lost;
static su_time_t start;

static void over(call *c, int *count, char const *what, int status, char const *phrase, sip_t const *sip)
{
    if (c->state == OVER)
        return;
    c->state = OVER;
    ++*count;
    if (what)
        fprintf(stderr, "%.3f %s: %d %s, Call-ID %s\n", su_time_diff(su_now(), start), what, status, phrase ? phrase : "",
                sip && sip->sip_call_id ? sip->sip_call_id->i_id : "unknown");
    su_timer_destroy(c->timer);
    c->timer = NULL;
}

static void due(su_root_magic_t *magic, su_timer_t *timer, su_timer_arg_t *arg)
{
    (void)magic, (void)timer;
    call *c = (call *)arg;
    switch (c->state) {
    case CALLING:
        over(c, &failed, "INVITE", 0, "no final answer", NULL);
        break;
    case UP:
        c->state = ENDING;
        nua_bye(c->handle, TAG_END());
        break;
    case ENDING:
    case OVER:
        break;
    }
}

static void begin(void)
{
    call *c = calloc(1, sizeof *c);
    c->handle = nua_handle(nua, c, NUTAG_URL(target), SIPTAG_TO_STR(target), TAG_END());
    c->timer = su_timer_create(su_root_task(root), PATIENCE * 1000);
    su_timer_set(c->timer, due, (su_timer_arg_t *)c);
    nua_invite(c->handle, SIPTAG_CONTACT(SIP_NONE), SIPTAG_CONTENT_TYPE_STR("application/sdp"), SIPTAG_PAYLOAD_STR(offer),
               TAG_END());
}

static void event(nua_event_t event, int status, char const *phrase, nua_t *agent, void *magic, nua_handle_t *nh, call *c,
                  sip_t const *sip, tagi_t tags[])
{
    (void)agent, (void)magic, (void)nh, (void)tags;
    if (event == nua_r_shutdown && status >= 200)
        su_root_break(root);
    if (!c)
        return;
    if (event == nua_r_invite && status >= 300) {
        over(c, &failed, "INVITE", status, phrase, sip);
    } else if (event == nua_r_invite && status >= 200 && c->state == CALLING) {
        c->state = UP;
        answered++;
        su_timer_set_interval(c->timer, due, (su_timer_arg_t *)c, hold);
    } else if (event == nua_r_bye && status == 200) {
        over(c, &ended, NULL, status, phrase, sip);
    } else if (event == nua_r_bye && status >= 300) {
        over(c, &lost, "BYE", status, phrase, sip);
    } else if (event == nua_i_bye) {
        over(c, &lost, "a BYE of the other side", status, phrase, sip);
    }
}

static void tick(su_root_magic_t *magic, su_timer_t *timer, su_timer_arg_t *arg)
{
    static int leaving;
    (void)magic, (void)timer, (void)arg;
    double now = su_time_diff(su_now(), start);
    while (begun < rate * (now < seconds ? now : seconds)) {
        begun++;
        begin();
    }
    if (!leaving && now >= seconds && failed + ended + lost >= begun) {
        leaving = 1;
        nua_shutdown(nua);
    }
}

int main(int count, char *arguments[])
{
    if (count != 6) {
        fprintf(stderr, "usage: calls URL TARGET RATE SECONDS HOLD\n");
        return 64;
    }
    target = arguments[2];
    rate = atof(arguments[3]);
    seconds = atof(arguments[4]);
    hold = atoi(arguments[5]);
    su_init();
    root = su_root_create(NULL);
    /* Without media the SDP is ours and passes as it is. */
    nua = nua_create(root, event, NULL, NUTAG_URL(arguments[1]), SIPTAG_USER_AGENT_STR("OPENSIPS_TTS_MRCP_CLIENT"),
                     NUTAG_MEDIA_ENABLE(0), NUTAG_SESSION_TIMER(0), TAG_END());
    if (!nua) {
        fprintf(stderr, "no agent at %s: the address is taken\n", arguments[1]);
        return 71;
    }
    start = su_now();
    su_timer_t *timer = su_timer_create(su_root_task(root), 10);
    su_timer_set_for_ever(timer, tick, NULL);
    su_root_run(root);
    printf("{\"calls\":%d,\"answered\":%d,\"failed\":%d,\"ended\":%d,\"lost\":%d}\n", begun, answered, failed, ended, lost);
    return 0;
}
