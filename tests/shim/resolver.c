/*
 * Preloaded: names that do not resolve while the file that RESOLVER_FAILS names exists. The resolver gives up
 * after 2 s, as one does whose servers do not answer; addresses are no names.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int getaddrinfo(const char *restrict node, const char *restrict service, const struct addrinfo *restrict hints,
                struct addrinfo **restrict found)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        (__typeof__(real))dlsym(RTLD_NEXT, "getaddrinfo");
    const char *file = getenv("RESOLVER_FAILS");
    struct in6_addr address;
    if (node && file && access(file, F_OK) == 0 && inet_pton(AF_INET, node, &address) != 1 &&
        inet_pton(AF_INET6, node, &address) != 1) {
        struct timespec wait = {2, 0};
        nanosleep(&wait, NULL);
        return EAI_AGAIN;
    }
    return real(node, service, hints, found);
}
