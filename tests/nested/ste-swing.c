/*
 * Move a PCI device's stream to and fro under its running driver: from bypass to
 * stage 1 with a 1:1 mapping of all memory, and back.  DMA means the same in
 * both, so a driver that goes on working has seen no third state.
 *
 *   echo "0000:01:00.0 5000" > /sys/kernel/debug/ste-swing
 *
 * moves it 5000 times there and back, and returns when that is done.  The
 * group's own domain must be bypass (iommu.passthrough=1).  Built into the
 * nested bed's kernel by tests/nested/kernel.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <linux/debugfs.h>
#include <linux/init.h>
#include <linux/ioport.h>
#include <linux/iommu.h>
#include <linux/mm.h>
#include <linux/pci.h>
#include <linux/uaccess.h>

/* Where the host has the device's interrupts go: an RMR in the guest's IORT */
#define MSI_WINDOW      0x08000000UL
#define MSI_WINDOW_SIZE 0x00100000UL

static int map_same(struct iommu_domain *domain, unsigned long addr,
		    size_t size)
{
	return iommu_map(domain, addr, addr, size, IOMMU_READ | IOMMU_WRITE,
			 GFP_KERNEL);
}

static int map_ram(unsigned long pfn, unsigned long n, void *domain)
{
	return map_same(domain, PFN_PHYS(pfn), PFN_PHYS(n));
}

static int swing(struct device *dev, unsigned int times)
{
	struct iommu_domain *own = iommu_get_domain_for_dev(dev);
	struct iommu_domain *domain;
	int ret;

	if (!own || own->type != IOMMU_DOMAIN_IDENTITY)
		return -EINVAL;
	domain = iommu_paging_domain_alloc(dev);
	if (IS_ERR(domain))
		return PTR_ERR(domain);
	ret = walk_system_ram_range(0, ULONG_MAX >> PAGE_SHIFT, domain, map_ram);
	if (!ret)
		ret = map_same(domain, MSI_WINDOW, MSI_WINDOW_SIZE);
	while (!ret && times--) {
		ret = iommu_attach_device(domain, dev);
		if (!ret)
			iommu_detach_device(domain, dev);
		cond_resched();
	}
	iommu_domain_free(domain);
	return ret;
}

static ssize_t swing_write(struct file *file, const char __user *user,
			   size_t size, loff_t *pos)
{
	unsigned int segment, bus, slot, function, times;
	struct pci_dev *pdev;
	char text[64] = "";
	int ret;

	if (size >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, user, size))
		return -EFAULT;
	if (sscanf(text, "%x:%x:%x.%x %u", &segment, &bus, &slot, &function,
		   &times) != 5)
		return -EINVAL;
	pdev = pci_get_domain_bus_and_slot(segment, bus,
					   PCI_DEVFN(slot, function));
	if (!pdev)
		return -ENODEV;
	ret = swing(&pdev->dev, times);
	pci_dev_put(pdev);
	return ret ?: size;
}

static const struct file_operations swing_ops = {
	.open = simple_open,
	.write = swing_write,
};

static int __init swing_init(void)
{
	debugfs_create_file("ste-swing", 0200, NULL, NULL, &swing_ops);
	return 0;
}
late_initcall(swing_init);
