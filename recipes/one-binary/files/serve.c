/*
 * A web server that is the whole system: the kernel starts it as init, and there is nothing else.
 *
 * It brings up the loopback device and the first network card, answers every GET on port 80 with
 * one page, waits for the children that the kernel gives it, and never ends. Its address is that of
 * QEMU's user networking unless the kernel command line says another:
 *     serve.address=192.0.2.7/24 serve.gateway=192.0.2.1
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static const char PAGE[] = "one program, nothing else\n";

/* The kernel panics when its init ends, and the machine restarts: that is what is wanted. */
static void give_up(const char *what)
{
    fprintf(stderr, "serve: cannot %s: %s\n", what, strerror(errno));
    exit(1);
}

/* The value of a word of the kernel command line, or what holds without it. */
static const char *word(const char *key, const char *otherwise)
{
    static char line[4096];
    int file = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t count = file < 0 ? -1 : read(file, line, sizeof line - 1);
    if (file >= 0)
        close(file);
    if (count < 0)
        return otherwise;
    line[count] = '\0';
    for (char *at = strtok(line, " \n"); at; at = strtok(NULL, " \n"))
        if (strncmp(at, key, strlen(key)) == 0)
            return strdup(at + strlen(key));
    return otherwise;
}

static struct sockaddr internet(in_addr_t address)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = address };
    struct sockaddr plain;
    memcpy(&plain, &to, sizeof plain);
    return plain;
}

static void up(int any, const char *card)
{
    struct ifreq request = { .ifr_flags = IFF_UP | IFF_RUNNING };
    strncpy(request.ifr_name, card, IFNAMSIZ - 1);
    if (ioctl(any, SIOCSIFFLAGS, &request) < 0)
        give_up("bring a network card up");
}

static void configure(int any, const char *card)
{
    char address[64];
    snprintf(address, sizeof address, "%s", word("serve.address=", "10.0.2.15/24"));
    char *prefix = strchr(address, '/');
    if (!prefix) {
        errno = EINVAL;
        give_up("read serve.address: it has no prefix length");
    }
    *prefix++ = '\0';
    int bits = atoi(prefix);
    struct ifreq request = { .ifr_addr = internet(inet_addr(address)) };
    strncpy(request.ifr_name, card, IFNAMSIZ - 1);
    if (ioctl(any, SIOCSIFADDR, &request) < 0)
        give_up("set the address");
    request.ifr_netmask = internet(bits <= 0 ? 0 : htonl(0xffffffffu << (32 - bits)));
    if (ioctl(any, SIOCSIFNETMASK, &request) < 0)
        give_up("set the netmask");
    up(any, card);
    struct rtentry route = {
        .rt_dst = internet(INADDR_ANY),
        .rt_genmask = internet(INADDR_ANY),
        .rt_gateway = internet(inet_addr(word("serve.gateway=", "10.0.2.2"))),
        .rt_flags = RTF_UP | RTF_GATEWAY,
    };
    if (ioctl(any, SIOCADDRT, &route) < 0)
        give_up("set the route");
}

/* The initramfs has loaded the driver; the card may take a moment. */
static void wait_for(const char *path)
{
    for (int tries = 0; tries < 3000 && access(path, F_OK) < 0; tries++)
        usleep(10000);
}

static void answer(int client)
{
    char request[2048], head[160];
    /* Whoever says nothing does not hold up the others for long. */
    struct timeval patience = { .tv_sec = 5 };
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    ssize_t count = read(client, request, sizeof request);
    int is_get = count >= 4 && memcmp(request, "GET ", 4) == 0;
    const char *page = is_get ? PAGE : "";
    int length = snprintf(head, sizeof head,
                          "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n"
                          "Connection: close\r\n\r\n",
                          is_get ? "200 OK" : "405 Method Not Allowed", strlen(page));
    if (send(client, head, (size_t)length, MSG_NOSIGNAL) == length)
        send(client, page, strlen(page), MSG_NOSIGNAL);
    shutdown(client, SHUT_WR);
}

/* Other programs' children are given to init when their parents end. */
static void reap(int number)
{
    int kept = errno;
    (void)number;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    errno = kept;
}

int main(void)
{
    if (getpid() != 1) {
        fprintf(stderr, "serve: this program is the init of a machine\n");
        return 1;
    }
    struct sigaction action = { .sa_handler = reap, .sa_flags = SA_RESTART | SA_NOCLDSTOP };
    sigaction(SIGCHLD, &action, NULL);
    /* Mounted already where whoever started this left them. */
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);

    int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (any < 0)
        give_up("open a socket");
    up(any, "lo");
    wait_for("/sys/class/net/eth0");
    configure(any, "eth0");

    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(80) };
    int yes = 1;
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(server, (struct sockaddr *)&here, sizeof here) < 0 || listen(server, 64) < 0)
        give_up("listen on port 80");
    printf("serve: ready\n");
    fflush(stdout);
    for (;;) {
        int client = accept4(server, NULL, NULL, SOCK_CLOEXEC);
        if (client < 0)
            continue;
        answer(client);
        close(client);
    }
}
