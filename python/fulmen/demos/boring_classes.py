import torch
from torch.utils.data import Dataset, DataLoader
import fulmen as L
class RandomDataset(Dataset):
    def __init__(self, size, length): self.len=length; self.data=torch.randn(length,size)
    def __getitem__(self,i): return self.data[i]
    def __len__(self): return self.len
class BoringModel(L.LightningModule):
    def __init__(self):
        super().__init__(); self.layer=torch.nn.Linear(32,2)
    def forward(self,x): return self.layer(x)
    def loss(self,p): return torch.nn.functional.mse_loss(p, torch.ones_like(p))
    def training_step(self,batch,batch_idx): return {"loss": self.loss(self(batch))}
    def validation_step(self,batch,batch_idx): return {"x": self.loss(self(batch))}
    test_step=validation_step
    def configure_optimizers(self):
        o=torch.optim.SGD(self.layer.parameters(),lr=0.1); return [o],[torch.optim.lr_scheduler.StepLR(o,1)]
    def train_dataloader(self): return DataLoader(RandomDataset(32,64))
    val_dataloader=test_dataloader=predict_dataloader=train_dataloader
