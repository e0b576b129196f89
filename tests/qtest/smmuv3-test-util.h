/*
 * What the arm-smmuv3 qtests on the virt machine share
 *
 * Reads the tables of the machine as a guest would, and runs a QEMU that must
 * not start.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SMMUV3_TEST_UTIL_H
#define SMMUV3_TEST_UTIL_H

#include "libqtest.h"

/* The machine that most tests run: with an ITS, and the same at each start */
#define SMMUV3_MACHINE "virt,gic-version=3,dtb-randomness=off"

/* Where things are on the virt machine */
#define VIRT_FW_CFG_BASE       0x09020000
#define VIRT_SMMU_BASE         0x09050000
#define VIRT_PLATFORM_BUS_BASE 0x0c000000
#define VIRT_RAM_BASE          0x40000000
#define VIRT_PCIE_MMIO_BASE    0x10000000
#define VIRT_ECAM_BASE         0x4010000000ULL

/**
 * smmuv3_firmware: the path of a file that serves as UEFI firmware
 *
 * Its contents are zero and nothing runs it, but with it a machine provides its
 * ACPI tables. Made on first use, removed at exit.
 */
const char *smmuv3_firmware(void);

/* The environment variable that names the base's QEMU, without the series */
#define SMMUV3_PRISTINE "QTEST_QEMU_PRISTINE"

/* Without it: mark the test as skipped; the caller must return */
bool smmuv3_no_pristine(void);

/*
 * edu is an emulated device that does DMA. Its configuration space is at
 * @config, its registers are at @bar. It writes zeros, or what it has read.
 * A transfer has 4 KiB at most, and is complete on return.
 */
void smmuv3_edu_enable(QTestState *qts, uint64_t config, uint64_t bar);
void smmuv3_edu_dma(QTestState *qts, uint64_t bar, bool write, uint64_t iova,
                    unsigned len);

/**
 * smmuv3_run: run QEMU until it exits by itself
 *
 * @binary_env: environment variable that names the binary
 * @args: its arguments, as a shell would take them
 * @err: set to what it wrote to stderr, to be freed by the caller
 *
 * Returns: its exit status, or 128 + the signal that killed it
 */
int smmuv3_run(const char *binary_env, const char *args, char **err);

/**
 * smmuv3_check_refused: fail the test unless QEMU refuses to start
 *
 * @machine: value of -machine
 * @firmware: whether there is UEFI firmware
 * @args: the other arguments
 * @text: what it must write to stderr
 */
void smmuv3_check_refused(const char *machine, bool firmware,
                          const char *args, const char *text);

/**
 * smmuv3_dump_dtb: the device tree that a guest would get
 *
 * @binary_env: environment variable that names the binary
 * @machine: value of -machine
 * @args: the other arguments
 * @len: set to the size of the device tree, in bytes
 *
 * Returns: the device tree, to be freed by the caller. The test fails if QEMU
 *          fails.
 */
void *smmuv3_dump_dtb(const char *binary_env, const char *machine,
                      const char *args, size_t *len);

/**
 * smmuv3_fw_cfg_file: read a whole fw_cfg file, by DMA
 *
 * Overwrites the first 64 KiB of guest RAM, and after them as many bytes as the
 * file has.
 *
 * Returns: its contents, to be freed by the caller, or NULL if there is none
 */
void *smmuv3_fw_cfg_file(QTestState *qts, const char *name, size_t *len);

/**
 * smmuv3_acpi_table: an ACPI table as a guest finds it, its checksum filled in
 *
 * @sig: its signature, four characters
 *
 * Returns: the table, to be freed by the caller, or NULL if there is none
 */
uint8_t *smmuv3_acpi_table(QTestState *qts, const char *sig, size_t *len);

/**
 * smmuv3_iort_summary: an IORT in lines that a test can compare
 *
 * One line for the table and one per node, in order. Nodes are named by their
 * position, from 0:
 *
 *   IORT rev 5
 *   0 ITS
 *   1 SMMUv3 base 0xc000000 gsiv 144 145 146 147: 0x0+0x10000>0
 *   2 RC: 0x0+0x100>1 0x100+0xff00>0
 *   3 RMR flags 0x5 0x8000000+0x100000: 0x0+0x100>1
 *
 * An identifier that is not the node's position follows it: "1 #255 SMMUv3".
 * gsiv has the order event, PRI, GERROR, sync. A mapping is input base + number
 * of IDs > node; "=output base" follows the input base if the two differ. If
 * iasl is installed and knows the nodes, the test fails if its reading of the
 * table differs.
 *
 * Returns: the lines, to be freed by the caller
 */
char *smmuv3_iort_summary(const uint8_t *iort, size_t len);

/**
 * smmuv3_decompile: run a decompiler on a table
 *
 * @argv0: iasl or dtc
 *
 * Returns: the source text, to be freed by the caller, or NULL if the
 *          decompiler is not installed. If it fails, the test fails.
 */
char *smmuv3_decompile(const char *argv0, const void *data, size_t len);

#endif /* SMMUV3_TEST_UTIL_H */
