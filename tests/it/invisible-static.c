/* SPDX-License-Identifier: Apache-2.0 */
/* A statically linked program, for which there is no shim; says a byte, waits for one, ends. */
#include <unistd.h>

int main(void)
{
    char byte = 's';

    if (write(1, &byte, 1) != 1 || read(0, &byte, 1) != 1)
        return 1;
    return 23;
}
