/* A CGI program in C: header lines, a blank line, the body (RFC 3875 section 6). scripts/make-site compiles it. */
#include <stdio.h>
#include <stdlib.h>

static const char *variable(const char *name)
{
	const char *value = getenv(name);
	return value ? value : "(not set)";
}

int main(void)
{
	fputs("Content-Type: text/plain; charset=utf-8\n\n", stdout);
	printf("Hello from a C program.\n\n");
	printf("method   %s\n", variable("REQUEST_METHOD"));
	printf("query    %s\n", variable("QUERY_STRING"));
	printf("server   %s\n", variable("SERVER_SOFTWARE"));
	return 0;
}
