/* Preloaded into the SIPp caller: SIPp reads CLOCK_MONOTONIC_COARSE, which moves in steps of 4 ms where the kernel ticks at
 * 250 Hz, and a call over the loopback takes a fraction of one. It gets the fine clock instead. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

int clock_gettime(clockid_t id, struct timespec *ts)
{
	static int (*real)(clockid_t, struct timespec *);

	if (!real)
		real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	return real(id == CLOCK_MONOTONIC_COARSE ? CLOCK_MONOTONIC : id, ts);
}
