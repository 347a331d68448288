/* Setting of mimalloc, which build.rs links into the program, so that all builds have it: freed pages return to the system at once. By
   default, they wait for the next allocation of the thread that freed them, which an idle server may not make for hours. */
#include <stdlib.h>

/* From mimalloc.h. Its options have fixed numbers. */
void mi_option_set(int option, long value);
enum { PURGE_DELAY = 15 };

__attribute__((constructor)) static void set_purge_delay(void) {
  if (getenv("MIMALLOC_PURGE_DELAY") == NULL) mi_option_set(PURGE_DELAY, 0);
}
