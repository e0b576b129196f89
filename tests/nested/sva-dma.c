/*
 * Driver of the test endpoint pasid-dma: a process binds its address space to
 * the endpoint (SVA), and then programs the endpoint by itself.
 *
 *   fd = open("/dev/pasid-dma0"), mmap(fd) is the endpoint's BAR 0
 *   ioctl(fd, SVA_DMA_BIND)      the process's PASID
 *   ioctl(fd, SVA_DMA_UNBIND)    also done by close()
 *
 * The endpoint is one for all who open the file. Nothing may have it open while
 * the driver is unbound from it. Built into the nested bed's kernel by
 * tests/nested/kernel.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <linux/fs.h>
#include <linux/io.h>
#include <linux/iommu.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/slab.h>

#include "pasid-dma.h"
#include "sva-dma.h"

struct sva_dma {
	struct pci_dev *pdev;
	struct miscdevice misc;
	void __iomem *regs;
	char name[16];
};

/* One that has opened the file */
struct sva_dma_user {
	struct sva_dma *dma;
	struct mutex lock;
	struct iommu_sva *bond;
};

static atomic_t sva_dma_number = ATOMIC_INIT(0);

static int sva_dma_open(struct inode *inode, struct file *file)
{
	struct sva_dma_user *user = kzalloc(sizeof(*user), GFP_KERNEL);

	if (!user)
		return -ENOMEM;
	/* where misc_open() leaves it */
	user->dma = container_of(file->private_data, struct sva_dma, misc);
	mutex_init(&user->lock);
	file->private_data = user;
	return 0;
}

static void sva_dma_unbind(struct sva_dma_user *user)
{
	if (user->bond)
		iommu_sva_unbind_device(user->bond);
	user->bond = NULL;
}

static int sva_dma_release(struct inode *inode, struct file *file)
{
	struct sva_dma_user *user = file->private_data;

	sva_dma_unbind(user);
	kfree(user);
	return 0;
}

static long sva_dma_bind(struct sva_dma_user *user)
{
	struct iommu_sva *bond;

	if (user->bond)
		return -EBUSY;
	bond = iommu_sva_bind_device(&user->dma->pdev->dev, current->mm);
	if (IS_ERR(bond))
		return PTR_ERR(bond);
	user->bond = bond;
	return iommu_sva_get_pasid(bond);
}

static long sva_dma_ioctl(struct file *file, unsigned int cmd,
			  unsigned long arg)
{
	struct sva_dma_user *user = file->private_data;
	long ret = 0;

	mutex_lock(&user->lock);
	switch (cmd) {
	case SVA_DMA_BIND:
		ret = sva_dma_bind(user);
		break;
	case SVA_DMA_UNBIND:
		sva_dma_unbind(user);
		break;
	default:
		ret = -ENOTTY;
	}
	mutex_unlock(&user->lock);
	return ret;
}

static int sva_dma_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct sva_dma_user *user = file->private_data;
	struct pci_dev *pdev = user->dma->pdev;

	vma->vm_page_prot = pgprot_device(vma->vm_page_prot);
	return vm_iomap_memory(vma, pci_resource_start(pdev, 0),
			       pci_resource_len(pdev, 0));
}

static const struct file_operations sva_dma_ops = {
	.owner = THIS_MODULE,
	.open = sva_dma_open,
	.release = sva_dma_release,
	.unlocked_ioctl = sva_dma_ioctl,
	.mmap = sva_dma_mmap,
};

static int sva_dma_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct sva_dma *dma;
	u32 state;
	int ret;

	dma = devm_kzalloc(&pdev->dev, sizeof(*dma), GFP_KERNEL);
	if (!dma)
		return -ENOMEM;
	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	dma->regs = pcim_iomap(pdev, 0, 0);
	if (!dma->regs)
		return -ENOMEM;
	if (readl(dma->regs + PASID_DMA_ID) != PASID_DMA_ID_VALUE)
		return -ENODEV;
	pci_set_master(pdev);

	dma->pdev = pdev;
	snprintf(dma->name, sizeof(dma->name), "pasid-dma%d",
		 atomic_inc_return(&sva_dma_number) - 1);
	dma->misc.minor = MISC_DYNAMIC_MINOR;
	dma->misc.name = dma->name;
	dma->misc.fops = &sva_dma_ops;
	dma->misc.parent = &pdev->dev;
	pci_set_drvdata(pdev, dma);
	ret = misc_register(&dma->misc);
	if (ret)
		return ret;
	state = readl(dma->regs + PASID_DMA_STATE);
	pci_info(pdev, "%s: PASID %s, ATS %s\n", dma->name,
		 state & PASID_DMA_STATE_PASID ? "on" : "off",
		 state & PASID_DMA_STATE_ATS ? "on" : "off");
	return 0;
}

static void sva_dma_remove(struct pci_dev *pdev)
{
	struct sva_dma *dma = pci_get_drvdata(pdev);

	writel(PASID_DMA_STOP, dma->regs + PASID_DMA_GO);
	misc_deregister(&dma->misc);
	pci_clear_master(pdev);
}

static const struct pci_device_id sva_dma_ids[] = {
	{ PCI_DEVICE(PASID_DMA_VENDOR_ID, PASID_DMA_DEVICE_ID) },
	{ }
};

static struct pci_driver sva_dma_driver = {
	.name = "pasid-dma",
	.id_table = sva_dma_ids,
	.probe = sva_dma_probe,
	.remove = sva_dma_remove,
};
builtin_pci_driver(sva_dma_driver);
