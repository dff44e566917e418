/* A user agent on libsofia-sip-ua, the library inside FreeSWITCH's mod_unimrcp and UniMRCP.
 *
 *     ua server URL [HOLD]                 serves until SIGTERM
 *     ua caller URL TARGET COUNT [HOLD]    COUNT calls to TARGET, one each 10 ms; gives up after 40 s
 *
 * Calls are of three kinds in turn, and the INVITE's Subject says which:
 *   caller   UPDATE, OPTIONS and re-INVITE in the dialog, all by the caller, and its BYE;
 *   server   the same, then a re-INVITE and the BYE by the server;
 *   cancel   the caller cancels while the server rings.
 * With HOLD, in milliseconds, each end waits so long before its first request in the dialog, and before its BYE.
 * The server's 180 is reliable (RFC 3262), so that all begin with PRACK.
 * The caller writes no Contact and no user, as UniMRCP; its User-Agent is UniMRCP's, or what USER_AGENT says. One line at the end tells what came to a good end, of each kind, and
 * what did not; the exit status is 0 if everything did. */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct call call;
#define NUA_MAGIC_T void
#define NUA_HMAGIC_T call

#include <sofia-sip/nua.h>
#include <sofia-sip/sip_status.h>
#include <sofia-sip/su_log.h>

enum kind { CALLER, SERVER, CANCEL, KINDS };
static char const *const kinds[KINDS] = { "caller", "server", "cancel" };

enum step { INVITED, UPDATED, ASKED, REINVITED, ENDING, DONE };

struct call {
    enum kind kind;
    enum step step;
    int invites; /* Those received here. */
    int waits;   /* A timer will let it go on. */
    int waited;  /* One more than the last step that it has waited at. */
};

static char const offer[] =
    "v=0\r\no=caller 1700000000 1700000001 IN IP4 127.0.0.5\r\ns=-\r\nc=IN IP4 127.0.0.5\r\nt=0 0\r\n"
    "m=application 9 TCP/MRCPv2 1\r\na=setup:active\r\na=connection:new\r\na=resource:speechsynth\r\na=cmid:1\r\n"
    "m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=recvonly\r\na=mid:1\r\n";
static char const answer[] =
    "v=0\r\no=server 1700000000 1700000001 IN IP4 127.0.0.3\r\ns=-\r\nc=IN IP4 127.0.0.3\r\nt=0 0\r\n"
    "m=application 1544 TCP/MRCPv2 1\r\na=setup:passive\r\na=connection:new\r\na=channel:1@speechsynth\r\na=cmid:1\r\n"
    "m=audio 5000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=sendonly\r\na=mid:1\r\n";

static su_root_t *root;
static nua_t *nua;
static int serves, hold, wanted, begun, ended[KINDS], failed, byes_answered, byes_received;
static char const *target;
static volatile sig_atomic_t asked_to_stop;

static void on_signal(int number)
{
    (void)number;
    asked_to_stop = 1;
}

static void fault(call *c, char const *what, int status, char const *phrase)
{
    failed++;
    fprintf(stderr, "%s call at step %d: %s: %d %s\n", c ? kinds[c->kind] : "unknown", c ? (int)c->step : -1, what, status,
            phrase ? phrase : "");
}

static void end(call *c)
{
    if (c->step == DONE)
        return;
    c->step = DONE;
    ended[c->kind]++;
}

static void reinvite(nua_handle_t *nh, char const *sdp)
{
    nua_invite(nh, SIPTAG_CONTENT_TYPE_STR("application/sdp"), SIPTAG_PAYLOAD_STR(sdp), TAG_END());
}

static void begin(enum kind kind)
{
    call *c = calloc(1, sizeof *c);
    c->kind = kind;
    nua_handle_t *nh = nua_handle(nua, c, NUTAG_URL(target), SIPTAG_TO_STR(target), TAG_END());
    nua_invite(nh, SIPTAG_SUBJECT_STR(kinds[kind]), SIPTAG_CONTACT(SIP_NONE), SIPTAG_CONTENT_TYPE_STR("application/sdp"),
               SIPTAG_PAYLOAD_STR(offer), TAG_END());
}

/* The caller's next step, once the last one has succeeded. */
static void caller_goes_on(nua_handle_t *nh, call *c)
{
    switch (c->step) {
    case INVITED:
        c->step = UPDATED;
        nua_update(nh, TAG_END());
        break;
    case UPDATED:
        c->step = ASKED;
        nua_options(nh, TAG_END());
        break;
    case ASKED:
        c->step = REINVITED;
        reinvite(nh, offer);
        break;
    case REINVITED:
        c->step = ENDING;
        if (c->kind == CALLER)
            nua_bye(nh, TAG_END());
        break;
    case ENDING:
    case DONE:
        break;
    }
}

static void accept_invite(nua_handle_t *nh)
{
    nua_respond(nh, SIP_200_OK, SIPTAG_CONTENT_TYPE_STR("application/sdp"), SIPTAG_PAYLOAD_STR(answer), TAG_END());
}

/* An INVITE at the server, or a re-INVITE at either end. */
static void invited(nua_handle_t *nh, call *c, sip_t const *sip)
{
    if (!c) {
        c = calloc(1, sizeof *c);
        char const *subject = sip->sip_subject ? sip->sip_subject->g_string : "";
        while (c->kind < KINDS && strcmp(subject, kinds[c->kind]))
            c->kind++;
        if (c->kind == KINDS) {
            c->kind = CALLER;
            fault(c, "an INVITE of no kind", 0, subject);
        }
        nua_handle_bind(nh, c);
    }
    c->invites++;
    if (serves && c->invites == 1)
        nua_respond(nh, SIP_180_RINGING, TAG_END());
    else
        accept_invite(nh);
}

static void ready(nua_handle_t *nh, call *c);

static void waited(su_root_magic_t *magic, su_timer_t *timer, su_timer_arg_t *arg)
{
    (void)magic;
    call *c = nua_handle_magic((nua_handle_t *)arg);
    su_timer_destroy(timer);
    c->waits = 0;
    ready((nua_handle_t *)arg, c);
}

/* Whether the call has to wait at its step. */
static int waits(nua_handle_t *nh, call *c)
{
    if (hold && !c->waits && c->waited != (int)c->step + 1) {
        c->waits = 1;
        c->waited = (int)c->step + 1;
        su_timer_set(su_timer_create(su_root_task(root), hold), waited, nh);
    }
    return c->waits;
}

/* The session is up, for the first time or again after a re-INVITE. */
static void ready(nua_handle_t *nh, call *c)
{
    if (!serves && (c->step == INVITED || c->step == REINVITED)) {
        if (!waits(nh, c))
            caller_goes_on(nh, c);
    } else if (serves && c->kind == SERVER && c->invites == 2 && !waits(nh, c)) {
        if (c->step == INVITED) {
            c->step = REINVITED;
            reinvite(nh, answer);
        } else if (c->step == REINVITED) {
            c->step = ENDING;
            nua_bye(nh, TAG_END());
        }
    }
}

static void event(nua_event_t event, int status, char const *phrase, nua_t *agent, void *magic, nua_handle_t *nh, call *c,
                  sip_t const *sip, tagi_t tags[])
{
    (void)agent, (void)magic;
    int state = nua_callstate_init;
    switch (event) {
    case nua_i_invite:
        invited(nh, c, sip);
        break;
    case nua_i_prack:
        if (c && c->kind != CANCEL)
            accept_invite(nh);
        break;
    case nua_r_prack:
        if (status == 200 && c->kind == CANCEL)
            nua_cancel(nh, TAG_END());
        else if (status >= 300)
            fault(c, "PRACK", status, phrase);
        break;
    case nua_r_invite:
        if (status == 487 && c->kind == CANCEL)
            end(c);
        else if (status >= 300)
            fault(c, "INVITE", status, phrase);
        break;
    case nua_i_state:
        tl_gets(tags, NUTAG_CALLSTATE_REF(state), TAG_END());
        if (c && state == nua_callstate_ready)
            ready(nh, c);
        break;
    case nua_r_update:
    case nua_r_options:
        if (status == 200)
            caller_goes_on(nh, c);
        else if (status >= 300)
            fault(c, nua_event_name(event), status, phrase);
        break;
    case nua_r_cancel:
        if (status >= 300)
            fault(c, "CANCEL", status, phrase);
        break;
    case nua_i_cancel:
        end(c);
        break;
    case nua_r_bye:
        if (status == 200)
            byes_answered++, end(c);
        else if (status >= 300)
            fault(c, "BYE", status, phrase);
        break;
    case nua_i_bye:
        byes_received++;
        end(c);
        break;
    case nua_i_error:
    case nua_i_media_error:
        fault(c, nua_event_name(event), status, phrase);
        break;
    case nua_r_shutdown:
        if (status >= 200)
            su_root_break(root);
        break;
    default:
        break;
    }
}

static void tick(su_root_magic_t *magic, su_timer_t *timer, su_timer_arg_t *arg)
{
    static int ticks;
    static int leaving;
    (void)magic, (void)timer, (void)arg;
    if (begun < wanted)
        begin((enum kind)(begun++ % KINDS));
    int done = !serves && ended[CALLER] + ended[SERVER] + ended[CANCEL] + failed >= wanted;
    if (!leaving && (asked_to_stop || done || (!serves && ++ticks > 4000))) {
        leaving = 1;
        nua_shutdown(nua);
    }
}

int main(int count, char *arguments[])
{
    int needed = count > 1 && !strcmp(arguments[1], "server") ? 3 : 5;
    serves = needed == 3;
    if ((count != needed && count != needed + 1) || (!serves && strcmp(arguments[1], "caller"))) {
        fprintf(stderr, "usage: ua server URL [HOLD] | ua caller URL TARGET COUNT [HOLD]\n");
        return 64;
    }
    if (count > needed)
        hold = atoi(arguments[needed]);
    if (!serves) {
        target = arguments[3];
        wanted = atoi(arguments[4]);
    }
    char const *name = getenv("USER_AGENT");
    signal(SIGTERM, on_signal);
    su_init();
    root = su_root_create(NULL);
    /* Without media the SDP is ours and passes as it is. */
    nua = nua_create(root, event, NULL, NUTAG_URL(arguments[2]),
                     SIPTAG_USER_AGENT_STR(serves ? "MRCP-SERVER" : name ? name : "OPENSIPS_TTS_MRCP_CLIENT"), NUTAG_MEDIA_ENABLE(0),
                     NUTAG_AUTOALERT(0), NUTAG_AUTOANSWER(0), NUTAG_EARLY_MEDIA(serves), NUTAG_SESSION_TIMER(0), TAG_END());
    if (!nua) {
        fprintf(stderr, "no agent at %s: the address is taken\n", arguments[2]);
        return 71;
    }
    su_timer_t *timer = su_timer_create(su_root_task(root), 10);
    su_timer_set_for_ever(timer, tick, NULL);
    su_root_run(root);
    printf("caller:%d server:%d cancel:%d bye-answered:%d bye-received:%d failed:%d\n", ended[CALLER], ended[SERVER],
           ended[CANCEL], byes_answered, byes_received, failed);
    fflush(stdout);
    return failed || (!serves && ended[CALLER] + ended[SERVER] + ended[CANCEL] != wanted);
}
